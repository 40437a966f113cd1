package faultnet_test

import (
	"context"
	"fmt"
	"io"

	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

func Example() {
	// The answer to the second request is lost: the connection ends before the second frame to the client.
	lost := faultnet.Place{Conn: 1, Dir: faultnet.ToClient, Frame: 2}
	network := faultnet.New(memnet.New(), faultnet.Faults(faultnet.Cut.At(lost)))

	l, err := network.Listen("tcp", "node1:1113")
	if err != nil {
		panic(err)
	}
	client, err := network.Dial(context.Background(), "tcp", "node1:1113") // eventstore.WithDialer(network.Dial)
	if err != nil {
		panic(err)
	}
	server, err := l.Accept()
	if err != nil {
		panic(err)
	}
	for _, request := range []string{"\x05\x00\x00\x00first", "\x06\x00\x00\x00second"} {
		_, _ = client.Write([]byte(request))
		got := make([]byte, len(request))
		_, _ = io.ReadFull(server, got)
		_, _ = server.Write(got)
		fmt.Printf("the server has handled %q\n", got[4:])
	}
	answers, err := io.ReadAll(client)
	fmt.Printf("the client read %q %v\n", answers, err)
	fmt.Println(network.Fired(), "fault")

	_, _, _ = client.Close(), server.Close(), l.Close()
	// Output:
	// the server has handled "first"
	// the server has handled "second"
	// the client read "\x05\x00\x00\x00first" <nil>
	// 1 fault
}

func ExampleRecord() {
	clean := faultnet.Record(memnet.New())
	l, err := clean.Listen("tcp", "node1:1113")
	if err != nil {
		panic(err)
	}
	client, err := clean.Dial(context.Background(), "tcp", "node1:1113")
	if err != nil {
		panic(err)
	}
	_, _ = client.Write([]byte("\x05\x00\x00\x00first"))
	_, _ = client.Close(), l.Close()

	for _, place := range clean.Recording().Places() {
		fmt.Println(place) // repeat the run with faultnet.Faults(faultnet.Cut.At(place))
	}
	// Output:
	// conn1-to-server-frame1+0
	// conn1-to-server-frame1+2
	// conn1-to-server-frame1+6
	// conn1-to-server-frame1+8
}
