package conn_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/conn"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// printer is a Waiter that hands the answer over.
type printer chan string

func (p printer) Reply(c messages.Command, body []byte) { p <- c.String() + " " + string(body) }
func (p printer) End(err error)                         { p <- err.Error() }

func Example() {
	srv, err := server.Start(server.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = srv.Close() }()
	c, err := conn.Dial(context.Background(), conn.Config{
		Addr: strings.TrimPrefix(srv.URL(), "tcp://"), Name: "example",
		Timeout: 7 * time.Second, HeartbeatInterval: 2 * time.Second, HeartbeatTimeout: 1500 * time.Millisecond,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	answer := make(printer, 1)
	if err := c.Call(c.NextTicket(), messages.Raw(messages.Ping, []byte("hello")), nil, answer, false); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-answer)
	// Output: Pong hello
}
