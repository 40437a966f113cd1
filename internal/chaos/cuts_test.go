package chaos_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// scenario is what a client does, once on a clean line and then once for every place where that line can break.
type scenario struct {
	name string
	// prepare fills the server by a client whose line is sound.
	prepare func(t *testing.T, sound *eventstore.Client)
	// run does it, and asserts what must hold however often the line broke.
	run func(ctx context.Context, t *testing.T, c, sound *eventstore.Client)
}

const stream = "cut"

func scenarios() []scenario {
	all := []scenario{reading, readingAll, following, projecting, truncating, undeleting, transacting}
	for _, expected := range []eventstore.ExpectedVersion{eventstore.Any, eventstore.StreamExists, eventstore.NoStream, 1} {
		all = append(all, appending(expected))
	}
	all = append(all, pending(eventstore.Any), pending(1))
	return all
}

// appending appends twice, the second time behind the first. The server is alive, so both succeed in the end, and are stored once.
func appending(expected eventstore.ExpectedVersion) scenario {
	before := 2
	if expected == eventstore.NoStream {
		before = 0
	}
	return scenario{
		name:    fmt.Sprintf("append with %v", expected),
		prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, before) },
		run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
			t.Helper()
			var want []uuid.UUID
			next := expected
			for range 2 {
				events := numbered(before+len(want), 2)
				for i := range events {
					events[i].ID = uuid.New()
					want = append(want, events[i].ID)
				}
				r, err := c.Append(ctx, stream, next, events)
				require.NoError(t, err)
				require.EqualValues(t, before+len(want)-1, r.Last)
				require.EqualValues(t, before+len(want)-2, r.First)
				if expected != eventstore.Any && expected != eventstore.StreamExists {
					next = r.Last
				}
			}
			var stored []uuid.UUID
			for e, err := range sound.ReadStream(ctx, stream, eventstore.At(int64(before))) {
				require.NoError(t, err)
				stored = append(stored, e.Event.ID)
			}
			require.Equal(t, want, stored, "every event once, in order")
		},
	}
}

// pending has several appends under way at once, which nobody waits for before the last is sent.
func pending(expected eventstore.ExpectedVersion) scenario {
	return scenario{
		name:    fmt.Sprintf("pending appends with %v", expected),
		prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 2) },
		run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
			t.Helper()
			const writes = 4
			var under []*eventstore.PendingWrite
			want := make(map[uuid.UUID]bool)
			for i := range writes {
				events := numbered(2+2*i, 2)
				for j := range events {
					events[j].ID = uuid.New()
					want[events[j].ID] = true
				}
				next := expected
				if expected >= 0 {
					next += eventstore.ExpectedVersion(2 * i)
				}
				under = append(under, c.AppendAsync(ctx, stream, next, events))
			}
			for i, p := range under {
				r, err := p.Wait(ctx)
				require.NoError(t, err, "those that were lost go out again in their order")
				if expected >= 0 {
					require.EqualValues(t, 3+2*i, r.Last)
				}
			}
			stored := make(map[uuid.UUID]bool)
			for e, err := range sound.ReadStream(ctx, stream, eventstore.At(2)) {
				require.NoError(t, err)
				require.True(t, want[e.Event.ID])
				require.False(t, stored[e.Event.ID], "twice")
				stored[e.Event.ID] = true
			}
			require.Equal(t, want, stored)
		},
	}
}

// readingAll reads the log forward, backward, and what is of one stream.
var readingAll = scenario{
	name:    "read all",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 20) },
	run: func(ctx context.Context, t *testing.T, c, _ *eventstore.Client) {
		t.Helper()
		admin := eventstore.As("admin", "changeit")
		var up, down, filtered []int64
		for e, err := range c.ReadAll(ctx, eventstore.Start, eventstore.PageSize(9), admin) {
			require.NoError(t, err)
			if e.Event.Stream == stream {
				up = append(up, e.Event.Number)
			}
		}
		for e, err := range c.ReadAll(ctx, eventstore.End, eventstore.PageSize(9), eventstore.Backward(), admin) {
			require.NoError(t, err)
			if e.Event.Stream == stream {
				down = append(down, e.Event.Number)
			}
		}
		for e, err := range c.ReadAll(ctx, eventstore.Start, eventstore.PageSize(9), eventstore.StreamPrefix(stream), admin) {
			require.NoError(t, err)
			filtered = append(filtered, e.Event.Number)
		}
		slices.Reverse(down)
		require.Equal(t, count(20), up)
		require.Equal(t, count(20), down)
		require.Equal(t, count(20), filtered)
	},
}

// truncating reads metadata, writes them anew, and truncates: each is there in the end, and what it found as well.
var truncating = scenario{
	name: "metadata",
	prepare: func(t *testing.T, sound *eventstore.Client) {
		t.Helper()
		write(t, sound, 0, 10)
		_, err := sound.SetMetadata(t.Context(), stream, eventstore.NoStream, eventstore.StreamMetadata{MaxCount: 9})
		require.NoError(t, err)
	},
	run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
		t.Helper()
		m, err := c.Metadata(ctx, stream)
		require.NoError(t, err)
		m.CacheControl = time.Minute
		r, err := c.SetMetadata(ctx, stream, m.Version, m)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Last)
		require.NoError(t, c.TruncateBefore(ctx, stream, 4))
		m, err = sound.Metadata(ctx, stream)
		require.NoError(t, err)
		require.EqualValues(t, 9, m.MaxCount)
		require.EqualValues(t, 4, m.TruncateBefore)
		require.Equal(t, time.Minute, m.CacheControl)
		require.EqualValues(t, 2, m.Version, "each was written once")
	},
}

// undeleting deletes softly, brings back what was there, and deletes for ever.
var undeleting = scenario{
	name:    "delete and undelete",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 5) },
	run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
		t.Helper()
		_, err := c.Delete(ctx, stream, eventstore.Any)
		require.NoError(t, err)
		there, err := sound.StreamExists(ctx, stream)
		require.NoError(t, err)
		require.False(t, there)
		require.NoError(t, c.Undelete(ctx, stream))
		slice, err := sound.ReadSlice(ctx, stream, eventstore.Start, 10)
		require.NoError(t, err)
		require.Len(t, slice.Events, 5)
		_, err = c.HardDelete(ctx, stream, eventstore.Any)
		require.NoError(t, err)
		_, err = sound.ReadSlice(ctx, stream, eventstore.Start, 10)
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	},
}

// transacting does what a user has to do with a transaction: a start or a write of unknown outcome begins it anew, as one that
// is not committed is nothing; a commit of unknown outcome is made again.
var transacting = scenario{
	name:    "transaction",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 2) },
	run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
		t.Helper()
		unknown := func(err error) bool {
			if err != nil {
				require.ErrorIs(t, err, eventstore.ErrConnectionLost)
				require.True(t, eventstore.MaybeApplied(err), "%v", err)
			}
			return err != nil
		}
		for committed := false; !committed; {
			tx, err := c.StartTransaction(ctx, stream, 1)
			if unknown(err) || unknown(tx.Write(ctx, numbered(2, 3))) || unknown(tx.Write(ctx, numbered(5, 1))) {
				continue
			}
			for !committed {
				var r eventstore.WriteResult
				r, err = tx.Commit(ctx)
				if committed = !unknown(err); committed {
					require.EqualValues(t, 2, r.First)
					require.EqualValues(t, 5, r.Last)
				}
			}
		}
		var stored []string
		for e, err := range sound.ReadStream(ctx, stream, eventstore.Start) {
			require.NoError(t, err)
			stored = append(stored, string(e.Event.Data))
		}
		require.Equal(t, []string{"0", "1", "2", "3", "4", "5"}, stored)
	},
}

var reading = scenario{
	name:    "read",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 20) },
	run: func(ctx context.Context, t *testing.T, c, _ *eventstore.Client) {
		t.Helper()
		var up, down []int64
		for e, err := range c.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(7)) {
			require.NoError(t, err)
			up = append(up, e.Event.Number)
		}
		for e, err := range c.ReadStream(ctx, stream, eventstore.End, eventstore.PageSize(7), eventstore.Backward()) {
			require.NoError(t, err)
			down = append(down, e.Event.Number)
		}
		require.Equal(t, count(20), up)
		slices.Reverse(down)
		require.Equal(t, count(20), down)
	},
}

// following subscribes from the start, so that the places are in pages, in the confirmation and in pushed events.
var following = scenario{
	name:    "subscription",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 10) },
	run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
		t.Helper()
		live := false
		sub, err := subscription.Open(ctx, c, subscription.Config{Stream: stream, PageSize: 4, OnNotice: func(n subscription.Notice) {
			switch n.Kind {
			case subscription.CaughtUp, subscription.FellBehind:
				require.Equal(t, n.Kind == subscription.FellBehind, live, "they take turns")
				live = !live
			default:
			}
		}})
		require.NoError(t, err)
		defer func() { require.NoError(t, sub.Close()) }()
		var got []int64
		for len(got) < 20 {
			if n := len(got); n < 10 { // also while it still reads what was there
				write(t, sound, 10+n, 1)
			}
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			got = append(got, e.Event.Number)
		}
		require.Equal(t, count(20), got)
	},
}

// projecting does the same by a listener, which a cut must not make repeat or miss an event within one run.
var projecting = scenario{
	name:    "listener",
	prepare: func(t *testing.T, sound *eventstore.Client) { t.Helper(); write(t, sound, 0, 10) },
	run: func(ctx context.Context, t *testing.T, c, sound *eventstore.Client) {
		t.Helper()
		var got []int64
		store := listener.MemoryStore()
		var l *listener.Listener
		l, err := listener.New(c, listener.Config{Name: "l", Stream: stream, Store: store, SaveEvery: 3}, func(_ context.Context, e eventstore.ResolvedEvent) error {
			got = append(got, e.Event.Number)
			if n := len(got); n <= 10 {
				write(t, sound, 9+n, 1)
			} else if n == 20 {
				l.Stop()
			}
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, l.Run(ctx))
		require.Equal(t, count(20), got)
		at, err := store.Load(ctx, "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(19), at)
	},
}

func count(n int) (all []int64) {
	for i := range n {
		all = append(all, int64(i))
	}
	return all
}

func numbered(first, n int) []eventstore.EventData {
	events := make([]eventstore.EventData, n)
	for i := range events {
		events[i] = eventstore.EventData{Type: "numbered", Data: fmt.Appendf(nil, "%d", first+i)}
	}
	return events
}

func write(t *testing.T, c *eventstore.Client, first, n int) {
	t.Helper()
	if n == 0 {
		return
	}
	_, err := c.Append(t.Context(), stream, eventstore.ExpectedVersion(first-1), numbered(first, n))
	require.NoError(t, err)
}

// play runs a scenario in virtual time over a line made by wrap.
func play(t *testing.T, s scenario, limit time.Duration, wrap func(faultnet.Dialer) *faultnet.Network, run func(ctx context.Context, t *testing.T, c, sound *eventstore.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory())
		sound := srv.Client(t)
		s.prepare(t, sound)
		line := wrap(srv)
		faultnet.Report(t, line)
		patient, stop := context.WithTimeout(t.Context(), time.Hour) // a line may break in every handshake for a while
		defer stop()
		c, err := eventstore.Connect(patient, srv.DirectURL(), eventstore.WithDialer(line.Dial))
		require.NoError(t, err)
		defer func() { require.NoError(t, c.Close()) }()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		run(ctx, t, c, sound)
	})
}

// record runs a scenario on a clean line and returns every place where it can break.
func record(t *testing.T, s scenario) (places []faultnet.Place) {
	t.Helper()
	var line *faultnet.Network
	play(t, s, time.Minute, func(inner faultnet.Dialer) *faultnet.Network {
		line = faultnet.Record(inner)
		return line
	}, s.run)
	return line.Recording().Places()
}

// Every scenario, broken once at every frame boundary and at three places inside each frame, in both directions, by a close and
// by a reset. What must hold is the same as on a clean line. Virtual time makes a hang a failure after a minute, and a
// goroutine that is left one at once.
func TestCutEverywhere(t *testing.T) {
	runs, broken := 0, 0
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			places := record(t, s)
			require.Greater(t, len(places), 20)
			for _, kind := range []faultnet.Kind{faultnet.Cut, faultnet.Reset, faultnet.HalfClose} {
				for _, at := range places {
					t.Run(fmt.Sprintf("%v %v", kind, at), func(t *testing.T) {
						var line *faultnet.Network
						play(t, s, time.Minute, func(inner faultnet.Dialer) *faultnet.Network {
							line = faultnet.New(inner, faultnet.Faults(kind.At(at)))
							return line
						}, s.run)
						runs++
						broken += line.Fired()
					})
				}
			}
		})
	}
	t.Logf("%d runs, %d of them broken", runs, broken)
	require.Greater(t, broken, runs*9/10, "places behind the last frame that a run waits for may not be reached, few others")
}

// The same scenarios over lines that break at random, in every way that there is and again and again: seeds spread over them.
func TestRandomFaults(t *testing.T) {
	all := scenarios()
	for seed := range faultnet.Seeds(t, 20) {
		s := all[int(seed)%len(all)]
		t.Run(fmt.Sprintf("%d %s", seed, s.name), func(t *testing.T) {
			play(t, s, time.Hour, func(inner faultnet.Dialer) *faultnet.Network {
				return faultnet.New(inner, faultnet.Random(seed, faultnet.Options{Max: 12, Frames: 12, Bytes: 200}))
			}, s.run)
		})
	}
}

// The line stands still at every place: a call with a deadline returns at it, to the instant, and says what it does not know.
func TestDeadlinesAreExactWhereverTheLineStalls(t *testing.T) {
	s := appending(1)
	for _, kind := range []faultnet.Kind{faultnet.Stall, faultnet.Swallow} {
		for _, at := range record(t, s) {
			if at.Frame == 1 {
				continue // the handshake is Connect's, which has returned
			}
			t.Run(fmt.Sprintf("%v %v", kind, at), func(t *testing.T) {
				play(t, s, 2*time.Second, func(inner faultnet.Dialer) *faultnet.Network {
					return faultnet.New(inner, faultnet.Faults(kind.At(at)))
				}, func(ctx context.Context, t *testing.T, c, _ *eventstore.Client) {
					t.Helper()
					begun := time.Now()
					var err error
					for next := eventstore.ExpectedVersion(1); err == nil; {
						var r eventstore.WriteResult
						r, err = c.Append(ctx, stream, next, numbered(0, 1))
						next = r.Last
						if next > 5 {
							return // the place is behind what was written
						}
					}
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.True(t, eventstore.MaybeApplied(err), err)
					require.Equal(t, 2*time.Second, time.Since(begun))
				})
			})
		}
	}
}
