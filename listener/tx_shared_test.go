package listener_test

// One name has one checkpoint, whoever reads, moves or removes it.

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/listener"
)

// Two processes follow one stream under one name, and lose their connections: whoever is first applies an event.
func TestTwoListenersOfOneNameApplyEachEventOnce(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 100)
		s := newLedger()
		first, second := newTx(t, c, s, record, saveEvery(7)), newTx(t, srv.Client(t), s, record, saveEvery(3))
		stops := []func() error{start(t, first), start(t, second)}
		for i := range 50 {
			write(t, c, 100+10*i, 10)
			if i%10 == 5 {
				srv.Cut()
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s.want(t, 0, 600)
		require.EqualValues(t, 600, first.Status().Handled+second.Status().Handled)
		for _, stop := range stops {
			require.NoError(t, stop())
		}
	})
}

// Another process has gone far ahead: its events are skipped without a transaction for each.
func TestItGoesOnFromTheNewerPlace(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 100)
		s := newLedger()
		transactions := 0
		s.before = func() error { transactions++; return nil }
		s.load = func() {
			s.load = nil
			require.NoError(t, s.Save(t.Context(), "l", eventstore.After(79)))
		}
		l := newTx(t, c, s, record, saveEvery(10))
		stop := start(t, l)
		s.want(t, 80, 20)
		require.Equal(t, 3, transactions, "one to learn it, two for the rest")
		require.EqualValues(t, 20, l.Status().Handled)
		require.NoError(t, stop())
	})
}

func TestACheckpointThatIsMovedBackIsFollowed(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 6)
		s := newLedger()
		l := newTx(t, c, s, record, from(eventstore.At(1)))
		stop := start(t, l)
		s.want(t, 1, 5)
		for name, move := range map[string]struct {
			by    func()
			first int
		}{
			"moved":   {func() { s.page.places["l"] = eventstore.After(2) }, 3},
			"removed": {func() { delete(s.page.places, "l") }, 1},
		} {
			s.with(t, func() { move.by(); s.page.applied = nil })
			at, _ := l.Status().Checkpoint.Number()
			write(t, c, int(at)+1, 1)
			time.Sleep(time.Minute)
			synctest.Wait()
			s.want(t, move.first, int(at)+2-move.first)
			require.NoError(t, l.Status().LastError, name)
		}
		require.NoError(t, stop())
	})
}

// From now on is from the first run's beginning, also when that run saw nothing, not even a stream.
func TestThePlaceOfTheFirstRunIsRemembered(t *testing.T) {
	for name, c := range map[string]struct {
		from        eventstore.From
		there       int // events before the first run
		first, want int // events whose effects are there in the end
		remembered  eventstore.From
	}{
		"the end":                    {eventstore.End, 5, 5, 2, eventstore.After(4)},
		"the end of an empty stream": {eventstore.End, 0, 0, 7, eventstore.At(0)},
		"a number":                   {eventstore.At(3), 5, 3, 4, eventstore.At(3)},
		"a number to come":           {eventstore.After(5), 5, 6, 1, eventstore.After(5)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, client *eventstore.Client) {
				if c.there > 0 {
					write(t, client, 0, c.there)
				}
				s := newLedger()
				l := newTx(t, client, s, record, from(c.from), func(cfg *listener.Config) {
					cfg.OnFailure = listener.RetryThenStop(1)
				})
				s.before = func() error { s.before = nil; l.Stop(); return nil } // of the transaction that remembers
				require.NoError(t, l.Run(t.Context()))
				s.with(t, func() { require.Equal(t, c.remembered, s.page.places["l"]) })
				write(t, client, c.there, 7-c.there)
				require.NoError(t, start(t, newTx(t, client, s, record, from(c.from)))())
				s.want(t, c.first, c.want)
			})
		})
	}
}

// Both processes load before either has remembered its end, and the second, whose end is later, finds that it is not the
// first: the events between the two ends are not lost.
func TestTwoProcessesThatBeginAtTheEndAgreeOnOne(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLedger()
		s.load = func() {
			s.load = nil
			first := newTx(t, c, s, record, from(eventstore.End)) // the stream is empty
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.NoError(t, first.Run(ctx))
			write(t, c, 0, 4)
		}
		second := newTx(t, c, s, record, from(eventstore.End))
		stop := start(t, second)
		time.Sleep(time.Second)
		synctest.Wait()
		require.ErrorContains(t, second.Status().LastError, "another process has begun at 0")
		time.Sleep(time.Second)
		synctest.Wait()
		s.want(t, 0, 4)
		require.NoError(t, second.Status().LastError)
		require.NoError(t, stop())
	})
}

func TestAPlaceThatCannotBeRememberedIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		s := newLedger()
		full := errors.New("disk full")
		s.before = func() error { return full }
		err := newTx(t, c, s, record, from(eventstore.End)).Run(t.Context())
		require.ErrorIs(t, err, full)
		require.EqualError(t, err, `listener "l": save the checkpoint after 4: disk full`)
	})
}

// Handlers and commits fail, answers to commits are lost, connections break, listeners stop and begin again, two of them at
// a time. SEEDS says how many times, SEED which; a seed fixes the plan and not the schedule: -count=100 repeats it.
func TestExactlyOnceUnderFire(t *testing.T) {
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				const events = 300
				random := rand.New(rand.NewPCG(seed, 1))
				write(t, c, 0, 1+random.IntN(100))
				s := newLedger()
				calm := false
				odds := func(one int) bool { return !calm && random.IntN(one) == 0 } // in the ledger's turn
				fault := func() error {
					if odds(10) {
						return errors.New("a bad day")
					}
					return nil
				}
				s.before, s.after = fault, fault
				handler := func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
					if err := record(ctx, p, e); err != nil || !odds(50) {
						return err
					}
					if odds(2) {
						panic("a bad day")
					}
					time.Sleep(time.Millisecond)
					return errors.New("a bad day")
				}
				var stops [2]func() error
				for i := range stops {
					stops[i] = start(t, newTx(t, c, s, handler, saveEvery(1+random.IntN(20))))
				}
				for written := at(t, c); written < events; {
					var what, n int
					s.with(t, func() { what, n = random.IntN(8), 1+random.IntN(20) })
					switch what {
					case 0:
						srv.Cut()
					case 1, 2:
						require.NoError(t, stops[what-1]())
						stops[what-1] = start(t, newTx(t, c, s, handler, saveEvery(n)))
					case 3:
						time.Sleep(time.Duration(n) * 100 * time.Millisecond)
					default:
						n = min(n, events-written)
						write(t, c, written, n)
						written += n
					}
				}
				s.with(t, func() { calm = true })
				time.Sleep(time.Minute)
				synctest.Wait()
				s.want(t, 0, events)
				for _, stop := range stops {
					require.NoError(t, stop())
				}
			})
		})
	}
}

// at returns how many events the stream has.
func at(t *testing.T, c *eventstore.Client) int {
	t.Helper()
	e, err := c.ReadEvent(t.Context(), "s", eventstore.End)
	require.NoError(t, err)
	return int(e.Event.Number) + 1
}
