package memnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/goeventstore/eventstore/internal/memnet"
)

func Example() {
	n := memnet.New()
	l, err := n.Listen("tcp", "node1:1113")
	if err != nil {
		panic(err)
	}
	client, err := n.Dial(context.Background(), "tcp", "node1:1113")
	if err != nil {
		panic(err)
	}
	_, _ = client.Write([]byte("ping")) // the write is over, yet nobody has accepted, let alone read

	server, err := l.Accept()
	if err != nil {
		panic(err)
	}
	fmt.Println("in flight:", server.(*memnet.Conn).Buffered())

	_ = client.Close()
	data, err := io.ReadAll(server)
	fmt.Printf("read: %q %v\n", data, err)
	_, err = server.Write(data)
	fmt.Println("peer gone:", errors.Is(err, syscall.EPIPE))

	_ = server.Close()
	_ = l.Close()
	_, err = n.Dial(context.Background(), "tcp", "node1:1113")
	fmt.Println(err)
	// Output:
	// in flight: 4
	// read: "ping" <nil>
	// peer gone: true
	// dial tcp node1:1113: connect: connection refused
}

func ExampleConn_Reset() {
	a, b := memnet.Pipe()
	_, _ = a.Write([]byte("a request that never arrives"))
	a.Reset()
	_, err := io.ReadAll(b)
	fmt.Println(errors.Is(err, syscall.ECONNRESET), b.Buffered())
	_, _ = a.Close(), b.Close()
	// Output: true 0
}
