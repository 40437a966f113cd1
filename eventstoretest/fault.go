package eventstoretest

import (
	"fmt"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Frame is a frame that came to the proxy. It is a copy: whoever gets it may keep it, and changing it changes nothing.
type Frame struct {
	Command         messages.Command
	ID              messages.ID
	FromServer      bool   // else from the client
	Conn            int    // which connection since Run, counted from 1
	Number          int    // which frame of its connection and direction, counted from 1
	Login, Password string // empty when it has none
	Body            []byte
}

// String names the frame in a few words, without its body and its password.
func (f *Frame) String() string {
	from := "client"
	if f.FromServer {
		from = "server"
	}
	return fmt.Sprintf("frame %d from the %s of connection %d: %s, %d bytes", f.Number, from, f.Conn, f.Command, len(f.Body))
}

// Fault says what becomes of a frame. The zero value is Pass.
type Fault struct {
	kind    kind
	delay   time.Duration
	command messages.Command
	body    []byte
}

type kind uint8

const (
	pass kind = iota
	drop
	delay
	duplicate
	replace
	answer
	cut
	cutAfter
)

var kindNames = [...]string{"pass", "drop", "delay", "duplicate", "replace", "answer", "cut", "cut after"}

var (
	// Pass passes the frame on.
	Pass = Fault{}
	// Drop loses it. The connection goes on.
	Drop = Fault{kind: drop}
	// Duplicate passes it on twice.
	Duplicate = Fault{kind: duplicate}
	// Cut ends the connection in front of the frame: its receiver finds the frames before it and then the end of the
	// stream, its sender finds a reset. What was under way to the sender is lost.
	Cut = Fault{kind: cut}
	// CutAfter is Cut behind the frame: its receiver still gets it.
	CutAfter = Fault{kind: cutAfter}
)

// Delay passes the frame on when d has gone by. The frames behind it wait too, as they would on a slow line.
func Delay(d time.Duration) Fault { return Fault{kind: delay, delay: d} }

// Replace passes another frame on in its place, with the same correlation id and credentials. The body is not copied.
func Replace(command messages.Command, body []byte) Fault {
	return Fault{kind: replace, command: command, body: body}
}

// Answer keeps the frame from its receiver and sends this back to its sender, with the same correlation id. The body is
// not copied.
func Answer(command messages.Command, body []byte) Fault {
	return Fault{kind: answer, command: command, body: body}
}

// NotReady is the Answer of a server that does not take requests yet: a client tries again.
func NotReady() Fault { return notHandled(pb.NotHandled_NotReady) }

// TooBusy is the Answer of a server that has too much to do: a client tries again.
func TooBusy() Fault { return notHandled(pb.NotHandled_TooBusy) }

// NotAuthenticated is the Answer of a server that does not know the login or the password of a package.
func NotAuthenticated() Fault { return Answer(messages.NotAuthenticated, []byte("Not Authenticated")) }

func notHandled(reason pb.NotHandled_NotHandledReason) Fault {
	body, err := messages.Of(messages.NotHandled, &pb.NotHandled{Reason: &reason}).AppendTo(nil)
	if err != nil {
		panic(err) // a message of one number
	}
	return Answer(messages.NotHandled, body)
}
