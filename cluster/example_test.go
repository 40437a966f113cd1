package cluster_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/goeventstore/eventstore/cluster"
)

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
	addr, err := gossip.Resolve(context.Background()) // or eventstore.WithResolver(gossip)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(addr)
	// Output: 10.0.0.2:1113
}
