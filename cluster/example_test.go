package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/goeventstore/eventstore/cluster"
)

// translated reaches a cluster that advertises the addresses of its own network.
type translated struct{ cluster.Resolver }

func (t translated) Resolve(ctx context.Context) (string, error) {
	addr, err := t.Resolver.Resolve(ctx)
	return strings.Replace(addr, "10.0.0.", "node", 1), err
}

func Example() {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"members":[
			{"state":"Follower","isAlive":true,"externalTcpIp":"10.0.0.1","externalTcpPort":1113},
			{"state":"Leader","isAlive":true,"externalTcpIp":"10.0.0.2","externalTcpPort":1113}]}`)
	}))
	defer node.Close()

	gossip, err := cluster.NewGossip(cluster.Config{Seeds: []string{node.Listener.Addr().String()}})
	if err != nil {
		log.Fatal(err)
	}
	addr, err := translated{gossip}.Resolve(context.Background()) // eventstore.WithResolver(translated{gossip})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(addr)
	// Output: node2:1113
}
