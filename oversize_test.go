package eventstore_test

import (
	"context"
	"encoding/binary"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// oversize sends the beginning of a frame that is larger than a frame may be, as a real server does with a page of large
// events, and goes on until the client has had enough.
func oversize(p *scripted.Peer, command messages.Command, id messages.ID) {
	b, _ := messages.AppendFrame(nil, id, nil, messages.Raw(command, nil))
	binary.LittleEndian.PutUint32(b, messages.MaxFrame+1)
	_, _ = p.Conn.Write(b)
	scripted.Drain(p)
}

// heavy is a stream, and the log, of events of which so many make a page that is larger than a frame: at and behind the number
// light, they are small.
type heavy struct {
	events, most int
	light        int64
	asked        []int // for how many, in the order of the requests
}

// page answers a read of a page, and returns false if it lost the connection by that.
func (h *heavy) page(p *scripted.Peer, f messages.Frame) bool {
	var from, count int64
	var body []byte
	switch f.Command {
	case messages.ReadStreamEventsForward:
		var m messages.StreamRead
		if m.Decode(f.Body, nil) != nil {
			return false
		}
		from, count = m.From, int64(m.Count)
	case messages.ReadAllEventsForward:
		var m messages.AllRead
		if m.Decode(f.Body) != nil {
			return false
		}
		from, count = m.Commit, int64(m.Count)
	case messages.FilteredReadAllEventsForward:
		var m pb.FilteredReadAllEvents
		if (messages.Reply{Body: f.Body}).Unmarshal(&m) != nil {
			return false
		}
		from, count = m.GetCommitPosition(), int64(m.GetMaxCount())
	default:
		p.Send(messages.BadRequest, f.ID, "not in this play")
		return true
	}
	h.asked = append(h.asked, int(count))
	if min(count, int64(h.events)-from) > int64(h.most) && from < h.light {
		oversize(p, f.Command+1, f.ID)
		return false
	}
	next := min(from+count, int64(h.events))
	record := messages.EventRecord{Stream: "s", ID: uuid.New(), Type: "t"}
	end := next == int64(h.events)
	if f.Command == messages.ReadStreamEventsForward {
		for record.Number = from; record.Number < next; record.Number++ {
			body = messages.AppendIndexed(body, 1, record.AppendTo(nil), nil)
		}
		body = (&messages.StreamPage{Next: next, Last: int64(h.events) - 1, EndOfStream: end}).AppendTo(body)
	} else {
		page := messages.AllPage{Commit: from, Prepare: from, NextCommit: next, NextPrepare: next}
		body = page.AppendHead(body)
		for record.Number = from; record.Number < next; record.Number++ {
			body = messages.AppendResolved(body, 3, record.AppendTo(nil), nil, record.Number, record.Number)
		}
		body = page.AppendTo(body)
		if end && f.Command == messages.FilteredReadAllEventsForward {
			body = append(body, 6<<3, 1)
		}
	}
	p.SendRequest(f.ID, messages.Raw(f.Command+1, body))
	return true
}

func (h *heavy) serve(p *scripted.Peer) {
	alive(p, func(f messages.Frame) bool { return h.page(p, f) })
}

// A page of 500 is larger than a frame: the server sends it all the same, the connection is lost, and the read is sent again with
// half the events until the page fits. Where the events are small again, so are the pages large again.
func TestAPageLargerThanAFrameIsAskedForByHalves(t *testing.T) {
	for name, read := range map[string]func(t *testing.T, c *eventstore.Client) []int64{
		"a stream": func(t *testing.T, c *eventstore.Client) (numbers []int64) {
			for e, err := range c.ReadStream(t.Context(), "s", eventstore.Start) {
				require.NoError(t, err)
				numbers = append(numbers, e.Event.Number)
			}
			return numbers
		},
		"borrowed": func(t *testing.T, c *eventstore.Client) (numbers []int64) {
			for e, err := range c.ReadStream(t.Context(), "s", eventstore.Start, eventstore.Borrowed()) {
				require.NoError(t, err)
				numbers = append(numbers, e.Event.Number)
			}
			return numbers
		},
		"all": func(t *testing.T, c *eventstore.Client) (numbers []int64) {
			for e, err := range c.ReadAll(t.Context(), eventstore.Start) {
				require.NoError(t, err)
				numbers = append(numbers, e.Event.Number)
			}
			return numbers
		},
		"all, filtered by the server": func(t *testing.T, c *eventstore.Client) (numbers []int64) {
			for e, err := range c.ReadAll(t.Context(), eventstore.Start, eventstore.StreamPrefix("s")) {
				require.NoError(t, err)
				numbers = append(numbers, e.Event.Number)
			}
			return numbers
		},
	} {
		t.Run(name, func(t *testing.T) {
			stream := &heavy{events: 3000, most: 70, light: 200}
			play(t, stream.serve, func(t *testing.T, c *eventstore.Client) {
				numbers := read(t, c)
				require.Len(t, numbers, 3000)
				for i, n := range numbers {
					require.EqualValues(t, i, n)
				}
				require.Equal(t, []int{500, 250, 125, 62, 62, 124, 62, 62, 124, 248, 496, 500}, stream.asked[:12])
			})
		})
	}
}

// A slice says how many events it was asked for in the end, so that a loop over slices does not lose a connection for each.
func TestASliceSaysHowManyEventsItWasAskedFor(t *testing.T) {
	stream := &heavy{events: 3000, most: 70, light: 3000}
	play(t, stream.serve, func(t *testing.T, c *eventstore.Client) {
		slice, err := c.ReadSlice(t.Context(), "s", eventstore.Start, 500)
		require.NoError(t, err)
		require.Len(t, slice.Events, 62)
		require.Equal(t, 62, slice.Asked)
		require.EqualValues(t, 62, slice.Next)
		require.False(t, slice.EndOfStream)
		all, err := c.ReadAllSlice(t.Context(), eventstore.Start, 100)
		require.NoError(t, err)
		require.Len(t, all.Events, 50)
		require.Equal(t, 50, all.Asked)
	})
}

// Of several calls in flight the answer to one is too large. The header of its frame tells which: that one is asked for with less,
// the others just lost their connection.
func TestOnlyTheReadThatWasTooLargeIsHalved(t *testing.T) {
	var asked []int32
	play(t, func(p *scripted.Peer) {
		var large messages.ID
		for range 3 {
			f := p.Next()
			if f.Command != messages.ReadStreamEventsForward {
				if p.Number > 1 {
					stored(p, f.ID)
				}
				continue
			}
			var m messages.StreamRead
			require.NoError(t, m.Decode(f.Body, nil))
			asked = append(asked, m.Count)
			switch {
			case p.Number > 1:
				p.SendRequest(f.ID, messages.Raw(f.Command+1, (&messages.StreamPage{EndOfStream: true}).AppendTo(nil)))
			case m.Count == 100:
				large = f.ID
			}
		}
		if p.Number == 1 {
			oversize(p, messages.ReadStreamEventsForwardCompleted, large)
		}
		scripted.Drain(p)
	}, func(t *testing.T, c *eventstore.Client) {
		var group sync.WaitGroup
		for _, count := range []int{90, 100} {
			group.Go(func() {
				_, err := c.ReadSlice(t.Context(), "s", eventstore.Start, count)
				require.NoError(t, err)
			})
			synctest.Wait()
		}
		group.Go(func() {
			_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
			require.NoError(t, err)
		})
		group.Wait()
		require.Equal(t, []int32{90, 100, 90, 50}, asked)
	})
}

// The connection ends behind the length, and nobody knows whose answer that was: every page in flight is asked for by halves.
func TestAnOversizeFrameOfNobodyKnowsWhom(t *testing.T) {
	var asked []int32
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var m messages.StreamRead
			require.NoError(t, m.Decode(f.Body, nil))
			asked = append(asked, m.Count)
			if p.Number == 1 {
				_, _ = p.Conn.Write([]byte{1, 0, 0, 4})
				return false
			}
			p.SendRequest(f.ID, messages.Raw(f.Command+1, (&messages.StreamPage{EndOfStream: true}).AppendTo(nil)))
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		_, err := c.ReadSlice(t.Context(), "s", eventstore.Start, 10)
		require.NoError(t, err)
		require.Equal(t, []int32{10, 5}, asked)
	})
}

// A single event is larger than a frame: that is an error, not an endless loop of connections, for whatever asked for it.
func TestASingleEventLargerThanAFrameIsAnError(t *testing.T) {
	var connections atomic.Int64
	play(t, func(p *scripted.Peer) {
		connections.Store(int64(p.Number))
		alive(p, func(f messages.Frame) bool {
			oversize(p, f.Command+1, f.ID)
			return false
		})
	}, func(t *testing.T, c *eventstore.Client) {
		reads := map[string]func() error{
			"ReadSlice": func() error { _, err := c.ReadSlice(t.Context(), "s", eventstore.Start, 4); return err },
			"ReadStream": func() (last error) {
				for _, err := range c.ReadStream(t.Context(), "s", eventstore.Start, eventstore.PageSize(4)) {
					last = err
				}
				return last
			},
			"ReadAllSlice": func() error { _, err := c.ReadAllSlice(t.Context(), eventstore.Start, 4); return err },
			"ReadEvent":    func() error { _, err := c.ReadEvent(t.Context(), "s", eventstore.Start); return err },
			"Open": func() error {
				x, err := c.Open(t.Context(), subscribe, window)
				require.NoError(t, err)
				_, err = x.Recv(t.Context())
				return err
			},
			"Append": func() error {
				_, err := c.Append(t.Context(), "s", eventstore.Any, numbered(1))
				require.True(t, eventstore.MaybeApplied(err))
				return err
			},
		}
		for name, read := range reads {
			before := connections.Load()
			err := read()
			require.ErrorIs(t, err, eventstore.ErrTooLarge, name)
			require.ErrorContains(t, err, "announces 67108865 bytes", name)
			require.False(t, eventstore.Retryable(err), name)
			require.LessOrEqual(t, connections.Load()-before, int64(4), name)
		}
	})
}

// A slow link: pages of 500 never come in time, those of 125 do. The first time-out may be a lost request, from the second one
// on the page is halved. Where nothing comes at all, the size of the page is not to blame.
func TestAPageThatNeverComesInTimeIsAskedForByHalves(t *testing.T) {
	var asked []int32
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var m messages.StreamRead
			require.NoError(t, m.Decode(f.Body, nil))
			asked = append(asked, m.Count)
			if m.Count > 125 {
				for range 5 { // something comes, if only for others
					time.Sleep(time.Second)
					p.Send(messages.StreamEventAppeared, messages.ID{}, string(make([]byte, 4<<10)))
				}
			} else {
				p.SendRequest(f.ID, messages.Raw(f.Command+1, (&messages.StreamPage{EndOfStream: true}).AppendTo(nil)))
			}
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		begun := time.Now()
		slice, err := c.ReadSlice(t.Context(), "s", eventstore.Start, 500)
		require.NoError(t, err)
		require.Equal(t, 125, slice.Asked)
		require.Equal(t, []int32{500, 500, 250, 125}, asked)
		require.Equal(t, 21*time.Second, time.Since(begun))
	})
	asked = nil
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			var m messages.StreamRead
			require.NoError(t, m.Decode(f.Body, nil))
			asked = append(asked, m.Count)
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := c.ReadSlice(ctx, "s", eventstore.Start, 500)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, []int32{500, 500, 500}, asked)
	})
}

// The embedded server does as a real one: a page that is larger than a frame costs the connection, and is asked for by halves.
func TestPagesOfTheEmbeddedServerLargerThanAFrame(t *testing.T) {
	for name, read := range map[string]func(ctx context.Context, c *eventstore.Client) iter.Seq2[eventstore.ResolvedEvent, error]{
		"forward": func(ctx context.Context, c *eventstore.Client) iter.Seq2[eventstore.ResolvedEvent, error] {
			return c.ReadStream(ctx, "s", eventstore.Start)
		},
		"backward": func(ctx context.Context, c *eventstore.Client) iter.Seq2[eventstore.ResolvedEvent, error] {
			return c.ReadStream(ctx, "s", eventstore.End, eventstore.Backward(), eventstore.PageSize(6))
		},
		"all": func(ctx context.Context, c *eventstore.Client) iter.Seq2[eventstore.ResolvedEvent, error] {
			return c.ReadAll(ctx, eventstore.Start, eventstore.PageSize(15))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := embedded(t)
				for range 6 { // of which four fit a frame
					_, err := c.Append(t.Context(), "s", eventstore.Any, []eventstore.EventData{{Type: "t", Data: make([]byte, 15<<20)}})
					require.NoError(t, err)
				}
				var numbers []int64
				for e, err := range read(t.Context(), c) {
					require.NoError(t, err)
					if e.Event.Stream == "s" {
						numbers = append(numbers, e.Event.Number)
					}
				}
				if name == "backward" {
					slices.Reverse(numbers)
				}
				require.Equal(t, []int64{0, 1, 2, 3, 4, 5}, numbers)
				require.Positive(t, c.Stats().Reconnects)
			})
		})
	}
}
