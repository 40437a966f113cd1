package messages_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Frames are appended to one buffer, which is written at once; a Reader on the other side cuts them apart.
func Example() {
	var wire []byte
	for i, request := range []messages.Request{
		messages.Raw(messages.Ping, []byte("hello")),
		&messages.StreamRead{Stream: "account-1", From: -1, Count: 10, Backward: true},
	} {
		var err error
		if wire, err = messages.AppendFrame(wire, messages.ID{byte(i + 1)}, nil, request); err != nil {
			fmt.Println(err)
			return
		}
	}

	r := messages.NewReader(bytes.NewReader(wire), 0)
	for {
		frame, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %s %q\n", frame.ID[0], frame.Command, frame.Body)
	}
	// Output:
	// 1 Ping "hello"
	// 2 ReadStreamEventsBackward "\n\taccount-1\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x18\n \x00(\x00"
}

// What is rare has no fast form: a generated message makes the request, another one reads the answer.
func ExampleOf() {
	stream, version, hard := "account-1", int64(-2), true
	request := messages.Of(messages.DeleteStream, &pb.DeleteStream{
		EventStreamId: &stream, ExpectedVersion: &version, RequireLeader: new(bool), HardDelete: &hard,
	})
	body, err := request.AppendTo(nil)
	fmt.Println(request.Command(), len(body), err)

	reply := messages.Reply{Command: messages.DeleteStreamCompleted, Body: []byte{0x08, 0x07}}
	var answer pb.DeleteStreamCompleted
	err = reply.Unmarshal(&answer)
	fmt.Println(answer.GetResult(), err)
	// Output:
	// DeleteStream 26 <nil>
	// AccessDenied <nil>
}

// An id is shown to people in one order of bytes and travels in another.
func ExampleParseGUID() {
	id := uuid.MustParse("33221100-5544-7766-8899-aabbccddeeff")
	wire := messages.AppendGUID(nil, id)
	fmt.Printf("%x\n", wire)
	back, err := messages.ParseGUID(wire)
	fmt.Println(back, err)
	// Output:
	// 00112233445566778899aabbccddeeff
	// 33221100-5544-7766-8899-aabbccddeeff <nil>
}
