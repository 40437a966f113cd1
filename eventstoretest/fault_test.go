package eventstoretest_test

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

func TestInterceptorsSeeFrames(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			var mu sync.Mutex
			var seen []*eventstoretest.Frame
			srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, f)
				return eventstoretest.Pass
			})
			first := dial(t, srv, srv.URL())
			first.ping(t, 1)
			first.wantPong(t, 1)
			first.ping(t, 2)
			first.wantPong(t, 2)
			second := dial(t, srv, srv.URL())
			credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
			require.NoError(t, err)
			b, err := messages.AppendFrame(nil, id(3), credentials, messages.Raw(messages.Ping, []byte("3")))
			require.NoError(t, err)
			second.write(t, b)
			second.wantPong(t, 3)

			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, []*eventstoretest.Frame{
				{Command: messages.Ping, ID: id(1), Conn: 1, Number: 1, Body: []byte("1")},
				{Command: messages.Pong, ID: id(1), Conn: 1, Number: 1, FromServer: true, Body: []byte("1")},
				{Command: messages.Ping, ID: id(2), Conn: 1, Number: 2, Body: []byte("2")},
				{Command: messages.Pong, ID: id(2), Conn: 1, Number: 2, FromServer: true, Body: []byte("2")},
				{Command: messages.Ping, ID: id(3), Conn: 2, Number: 1, Login: "admin", Password: "changeit", Body: []byte("3")},
				{Command: messages.Pong, ID: id(3), Conn: 2, Number: 1, FromServer: true, Body: []byte("3")},
			}, seen)
			require.Equal(t, "frame 1 from the client of connection 2: Ping, 1 bytes", seen[4].String())
		})
	}
}

func TestFirstInterceptorThatDoesNotPassDecides(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			var mu sync.Mutex
			asked := ""
			install := func(name string, decides bool) (remove func()) {
				return srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
					if f.Command != messages.Ping {
						return eventstoretest.Pass
					}
					mu.Lock()
					defer mu.Unlock()
					asked += name
					f.Body[0] = 'x' // its own copy
					if decides {
						return eventstoretest.Answer(messages.Pong, []byte(name))
					}
					return eventstoretest.Pass
				})
			}
			want := func(answer, order string) {
				t.Helper()
				c := dial(t, srv, srv.URL())
				c.ping(t, 1)
				c.want(t, messages.Pong, id(1), answer)
				mu.Lock()
				defer mu.Unlock()
				require.Equal(t, order, asked)
				asked = ""
			}
			removeA := install("a", false)
			removeB := install("b", true)
			install("c", true)
			want("b", "ab")
			removeB()
			want("c", "ac")
			removeB() // twice is fine
			removeA()
			want("c", "c")
		})
	}
}

func TestInterceptorRemovesItself(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			var remove func()
			installed := make(chan struct{}) // closed when remove is set
			remove = srv.Intercept(func(*eventstoretest.Frame) eventstoretest.Fault {
				<-installed
				remove()
				return eventstoretest.Drop
			})
			close(installed)
			c := dial(t, srv, srv.URL())
			c.ping(t, 1) // lost
			c.ping(t, 2)
			c.wantPong(t, 2)
		})
	}
}

func TestInterceptorRemovesTheNext(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			var remove func()
			srv.Intercept(func(*eventstoretest.Frame) eventstoretest.Fault {
				remove()
				return eventstoretest.Pass
			})
			remove = srv.Intercept(func(*eventstoretest.Frame) eventstoretest.Fault { return eventstoretest.Drop })
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.wantPong(t, 1)
		})
	}
}

func TestDrop(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := dial(t, srv, srv.URL())
			once(srv, messages.Ping, eventstoretest.Drop)
			once(srv, messages.Pong, eventstoretest.Drop)
			for n := byte(1); n <= 4; n++ {
				c.ping(t, n)
			}
			c.wantPong(t, 3) // the request 1 and the answer 2 are lost
			c.wantPong(t, 4)
		})
	}
}

func TestDuplicate(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			once(srv, messages.Ping, eventstoretest.Duplicate)
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.wantPong(t, 1)
			c.wantPong(t, 1)
			c.ping(t, 2)
			c.wantPong(t, 2)
		})
	}
}

func TestReplace(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			once(srv, messages.Ping, eventstoretest.Replace(messages.Ping, []byte("another")))
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.want(t, messages.Pong, id(1), "another")
			once(srv, messages.Pong, eventstoretest.Replace(messages.BadRequest, []byte("no")))
			c.ping(t, 2)
			c.want(t, messages.BadRequest, id(2), "no")
		})
	}
}

func TestReplaceKeepsCredentials(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			once(srv, messages.Ping, eventstoretest.Replace(messages.Authenticate, nil))
			credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
			require.NoError(t, err)
			b, err := messages.AppendFrame(nil, id(1), credentials, messages.Raw(messages.Ping, []byte("body")))
			require.NoError(t, err)
			c := dial(t, srv, srv.URL())
			c.write(t, b)
			c.want(t, messages.Authenticated, id(1), "")
		})
	}
}

func TestAnswer(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			reached := once(srv, messages.Pong, eventstoretest.Pass)
			once(srv, messages.Ping, eventstoretest.Answer(messages.Pong, []byte("from the proxy")))
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			c.want(t, messages.Pong, id(1), "from the proxy")
			require.Zero(t, reached())
			c.ping(t, 2)
			c.wantPong(t, 2)
		})
	}
}

func TestNotReadyAndTooBusy(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			once(srv, messages.WriteEvents, eventstoretest.NotReady())
			seen := once(srv, messages.WriteEvents, eventstoretest.TooBusy()) // the first that gets past the other
			third := once(srv, messages.WriteEvents, eventstoretest.Pass)
			appendOne(t, c, "a", eventstore.NoStream)
			require.Equal(t, 2, seen())
			require.Equal(t, 1, third())
			requireEvents(t, srv, "a", 1)
		})
	}
}

// The request reaches the server, the answer is the last of its connection and is lost.
func TestCutAtTheAnswer(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			requests := once(srv, messages.WriteEvents, eventstoretest.Pass)
			once(srv, messages.WriteEventsCompleted, eventstoretest.Cut)
			appendOne(t, c, "a", eventstore.NoStream)
			require.Equal(t, 2, requests())
			requireEvents(t, srv, "a", 1)
		})
	}
}

func TestCutAtTheRequest(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			answers := once(srv, messages.WriteEventsCompleted, eventstoretest.Pass)
			once(srv, messages.WriteEvents, eventstoretest.Cut)
			appendOne(t, c, "a", eventstore.NoStream)
			require.Equal(t, 1, answers())
			requireEvents(t, srv, "a", 1)
		})
	}
}

func TestCutAfterTheRequest(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			requests := once(srv, messages.WriteEvents, eventstoretest.CutAfter)
			appendOne(t, c, "a", eventstore.NoStream)
			require.Equal(t, 2, requests())
			requireEvents(t, srv, "a", 1)
		})
	}
}

// A cut in one direction keeps what passed before it, whether or not its receiver had read that yet.
func TestCutIsBetweenFrames(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprint("after=", after), func(t *testing.T) {
			for name, network := range networks {
				t.Run(name, func(t *testing.T) {
					srv := eventstoretest.Run(t, network())
					const frames = 100
					cut := eventstoretest.Cut
					if after {
						cut = eventstoretest.CutAfter
					}
					srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
						if f.Command == messages.Pong && string(f.Body) == fmt.Sprint(frames) {
							return cut
						}
						return eventstoretest.Pass
					})
					c := dial(t, srv, srv.URL())
					for n := byte(1); n <= frames+10; n++ {
						c.ping(t, n)
					}
					for n := byte(1); n < frames; n++ {
						c.wantPong(t, n)
					}
					if after {
						c.wantPong(t, frames)
					}
					c.wantEnd(t)
				})
			}
		})
	}
}

// A cut at a request: its sender is reset.
func TestCutResetsTheSender(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			once(srv, messages.Ping, eventstoretest.Cut)
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			_, err := c.next()
			require.ErrorIs(t, err, syscall.ECONNRESET)
		})
	}
}

// The server stores the events and says that it does not know; the copy that the client sends is recognized.
func TestAnswerOfAnotherResult(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			body, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&pb.WriteEventsCompleted{
				Result:           messages.CommitTimeout.Enum(),
				FirstEventNumber: proto.Int64(-1),
				LastEventNumber:  proto.Int64(-1),
			})
			require.NoError(t, err)
			c := srv.Client(t)
			seen := once(srv, messages.WriteEventsCompleted, eventstoretest.Replace(messages.WriteEventsCompleted, body))
			appendOne(t, c, "a", eventstore.NoStream)
			require.Equal(t, 2, seen())
			requireEvents(t, srv, "a", 1)
		})
	}
}

func TestAnswerTwice(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			c := srv.Client(t)
			once(srv, messages.WriteEventsCompleted, eventstoretest.Duplicate)
			appendOne(t, c, "a", eventstore.NoStream)
			appendOne(t, c, "a", 0)
			requireEvents(t, srv, "a", 2)
		})
	}
}

func TestTooLargeReplacementIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		once(srv, messages.Ping, eventstoretest.Answer(messages.Pong, make([]byte, messages.MaxFrame)))
		c := dial(t, srv, srv.URL())
		c.ping(t, 1)
		c.ping(t, 2)
		c.wantPong(t, 2)
	})
}

// FailNow in an interceptor ends the pump's goroutine: the connection must end with it and not hang.
func TestInterceptorThatEndsItsGoroutine(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			fake := &tb{TB: t}
			once := true
			srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
				if f.Command == messages.Ping && once {
					once = false
					fake.Fatalf("no")
				}
				return eventstoretest.Pass
			})
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
			_, err := c.next()
			require.ErrorIs(t, err, syscall.ECONNRESET)
			c = dial(t, srv, srv.URL())
			c.ping(t, 2)
			c.wantPong(t, 2)
		})
	}
}

func TestDelayIsBoundedByTheTest(t *testing.T) {
	for name, network := range networks {
		t.Run(name, func(t *testing.T) {
			srv := eventstoretest.Run(t, network())
			once(srv, messages.Pong, eventstoretest.Delay(time.Hour))
			c := dial(t, srv, srv.URL())
			c.ping(t, 1)
		})
	}
}
