package eventstore_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
)

// holding answers reads of a page from a stream that holds records with these ids, the first of them with number first.
func holding(p *scripted.Peer, f messages.Frame, first int64, ids []uuid.UUID) {
	read := messages.StreamRead{Backward: f.Command == messages.ReadStreamEventsBackward}
	if read.Decode(f.Body, nil) != nil {
		return
	}
	last := first + int64(len(ids)) - 1
	var page []byte
	add := func(n int64) {
		record := messages.EventRecord{Stream: read.Stream, Number: n, ID: ids[n-first], Type: "t"}
		page = messages.AppendIndexed(page, 1, record.AppendTo(nil), nil)
	}
	end := messages.StreamPage{Last: last, EndOfStream: true, Next: last + 1}
	switch {
	case len(ids) == 0:
		end = messages.StreamPage{Result: messages.ReadStreamNoStream, Next: -1, Last: -1, EndOfStream: true}
	case read.Backward:
		end.Next = -1
		for n := last; n >= first && n > last-int64(read.Count); n-- {
			add(n)
		}
	case read.From+int64(read.Count) <= first: // protocol 4.8: the reader is sent to what can be read
		end.Next, end.EndOfStream = first, false
	default:
		for n := max(first, read.From); n <= last && n < read.From+int64(read.Count); n++ {
			add(n)
		}
	}
	p.SendRequest(f.ID, messages.Raw(f.Command+1, end.AppendTo(page)))
}

// The first attempt's answer is lost, the second is refused: what the stream holds decides, as far as it can.
func TestAResentAppendWithAWrongVersionIsReadBack(t *testing.T) {
	own := []uuid.UUID{uuid.New(), uuid.New(), uuid.New()}
	other := []uuid.UUID{uuid.New(), uuid.New(), uuid.New(), uuid.New()}
	join := func(parts ...[]uuid.UUID) (all []uuid.UUID) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	const stored, refused, unknown = "stored", "refused", "unknown"
	tests := []struct {
		name     string
		expected eventstore.ExpectedVersion
		first    int64 // number of the first record that can be read
		holds    []uuid.UUID
		outcome  string
		at       int64 // of the first own event, when stored
	}{
		{"exact: it is there", 3, 0, join(other, own), stored, 4},
		{"exact: it is there, and more", 3, 0, join(other, own, other), stored, 4},
		{"exact: somebody else's are", 3, 0, join(other, other), refused, 0},
		{"exact: only its beginning is, so another's", 3, 0, join(other, own[:2], other), refused, 0},
		{"exact: nothing yet", 3, 0, other, unknown, 0},
		{"exact: too few to tell", 3, 0, join(other, own[:1]), unknown, 0},
		{"exact: truncated since", 3, 6, other, unknown, 0},
		{"exact: deleted since", 3, 0, nil, unknown, 0},
		{"no stream: it is there", eventstore.NoStream, 0, join(own, other), stored, 0},
		{"no stream: it begins what was deleted before", eventstore.NoStream, 7, join(own, other), stored, 7},
		{"no stream: somebody else was first", eventstore.NoStream, 0, other, refused, 0},
		{"no stream: the beginning is gone", eventstore.NoStream, 7, other, unknown, 0},
		{"no stream: deleted since", eventstore.NoStream, 0, nil, unknown, 0},
		{"any: the last events", eventstore.Any, 0, join(other, own), stored, 4},
		{"any: in the middle", eventstore.Any, 0, join(other, own, other), stored, 4},
		{"any: behind an end of its own", eventstore.Any, 0, join(own, own[2:]), stored, 0},
		{"any: only a part", eventstore.Any, 0, join(other, own[:2], other), unknown, 0},
		{"any: in another order", eventstore.Any, 0, []uuid.UUID{own[1], own[0], own[2]}, unknown, 0},
		{"any: not to be seen", eventstore.Any, 0, other, unknown, 0},
		{"stream exists: it is there", eventstore.StreamExists, 0, join(other, own), stored, 4},
		{"stream exists: deleted since", eventstore.StreamExists, 0, nil, unknown, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(p *scripted.Peer) {
				alive(p, func(f messages.Frame) bool {
					if f.Command != messages.WriteEvents {
						holding(p, f, tt.first, tt.holds)
						return true
					}
					if p.Number == 1 {
						return false // cut
					}
					p.SendRequest(f.ID, &messages.AppendCompleted{Result: messages.WrongExpectedVersion, HasCurrent: true, CurrentVersion: 42})
					return true
				})
			}, func(t *testing.T, c *eventstore.Client) {
				var events []eventstore.EventData
				for _, id := range own {
					events = append(events, eventstore.EventData{ID: id, Type: "t"})
				}
				r, err := c.Append(t.Context(), "s", tt.expected, events)
				if tt.outcome == stored {
					require.NoError(t, err)
					require.EqualValues(t, tt.at, r.First)
					require.EqualValues(t, tt.at+2, r.Last)
					return
				}
				require.ErrorIs(t, err, eventstore.ErrWrongVersion)
				require.Equal(t, tt.outcome == unknown, eventstore.MaybeApplied(err), err)
			})
		})
	}
}

// Shutdown is called while an append is read back, and with a single place in flight: the look-up belongs to the append, needs no
// place of its own, and is let finish.
func TestShutdownLetsAReadBackFinish(t *testing.T) {
	own := []uuid.UUID{uuid.New()}
	play(t, func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			if f.Command != messages.WriteEvents {
				time.Sleep(time.Second)
				holding(p, f, 0, own)
				return true
			}
			if p.Number == 1 {
				return false // cut
			}
			p.SendRequest(f.ID, &messages.AppendCompleted{Result: messages.WrongExpectedVersion})
			return true
		})
	}, func(t *testing.T, c *eventstore.Client) {
		var group sync.WaitGroup
		group.Go(func() {
			_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{{ID: own[0], Type: "t"}})
			require.NoError(t, err)
		})
		time.Sleep(500 * time.Millisecond)
		require.NoError(t, c.Shutdown(t.Context()))
		group.Wait()
	}, eventstore.WithMaxInFlight(1))
}
