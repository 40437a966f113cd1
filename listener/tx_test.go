package listener_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/messages"
)

func newTx(t *testing.T, c *eventstore.Client, s listener.TxStore[*page], h listener.TxHandler[*page], change ...func(*listener.Config)) *listener.Listener {
	t.Helper()
	cfg := listener.Config{Name: "l", Stream: "s", Backoff: constant}
	for _, f := range change {
		f(&cfg)
	}
	l, err := listener.NewTx(c, cfg, s, h)
	require.NoError(t, err)
	return l
}

func saveEvery(n int) func(*listener.Config) {
	return func(cfg *listener.Config) { cfg.SaveEvery = n }
}

func from(place eventstore.From) func(*listener.Config) {
	return func(cfg *listener.Config) { cfg.From = place }
}

func stopAfter(n int) func(*listener.Config) {
	return func(cfg *listener.Config) { cfg.OnFailure = listener.RetryThenStop(n) }
}

func TestEventsThatWaitShareATransaction(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 25)
		s := newLedger()
		l := newTx(t, c, s, record, saveEvery(10))
		stop := start(t, l)
		s.want(t, 0, 25)
		require.Equal(t, []int{10, 10, 5}, s.committed)
		for i := range 3 {
			write(t, c, 25+i, 1)
			synctest.Wait()
		}
		s.want(t, 0, 28)
		require.Equal(t, []int{10, 10, 5, 1, 1, 1}, s.committed)
		status := l.Status()
		require.EqualValues(t, 28, status.Handled)
		require.Equal(t, eventstore.After(27), status.Checkpoint)
		require.NoError(t, stop())

		stop = start(t, newTx(t, c, s, record))
		write(t, c, 28, 2)
		synctest.Wait()
		require.NoError(t, stop())
		s.want(t, 0, 30)
	})
}

// While it catches up, pushed events wait behind a page that is not read yet. The page is late: what was gathered is handled
// in time, and no transaction was open while the page was waited for.
func TestNoTransactionIsOpenWhileItWaitsForTheNetwork(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 600)
		s := newLedger()
		other, pages := srv.Client(t), 0
		srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
			if f.Command != messages.ReadStreamEventsForward {
				return eventstoretest.Pass
			}
			s.with(t, func() {}) // waits for ever when a transaction waits for this page
			if pages++; pages == 1 {
				write(t, other, 600, 1)
				return eventstoretest.Delay(time.Millisecond) // the pushed event is there first
			}
			return eventstoretest.Delay(2500 * time.Millisecond)
		})
		began := time.Now()
		stop := start(t, newTx(t, c, s, record, saveEvery(1000)))
		time.Sleep(time.Minute)
		synctest.Wait()
		s.want(t, 0, 601)
		require.Equal(t, []int{500, 101}, s.committed)
		require.Equal(t, time.Millisecond+time.Second, s.times[0].Sub(began), "SaveAfter")
		require.NoError(t, stop())
	})
}

// The second batch is gathered over the moment when everything that was there has been delivered.
func TestCaughtUpIsToldBehindTheCommit(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 6)
		s := newLedger()
		told := 0
		l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 0 {
				write(t, c, 6, 3) //nolint:contextcheck // the test writes, not the handler
				time.Sleep(time.Second)
			}
			return record(ctx, p, e)
		}, saveEvery(4), func(cfg *listener.Config) {
			cfg.OnCaughtUp = func(context.Context) {
				told++
				s.want(t, 0, 8) //nolint:contextcheck // the test looks
			}
		})
		stop := start(t, l)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, 1, told)
		s.want(t, 0, 9)
		require.Equal(t, []int{4, 4, 1}, s.committed)
		require.NoError(t, stop())
	})
}

func TestAPoisonEventHoldsUpWhatFollowsOnly(t *testing.T) {
	for name, poison := range map[string]func() error{
		"error": func() error { return errors.New("no more") },
		"panic": func() error { panic("no more") },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, 0, 10)
				s := newLedger()
				for attempts := range 3 {
					calls := 0
					l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
						if err := record(ctx, p, e); err != nil || e.Event.Number != 5 {
							return err
						}
						calls++
						return poison()
					}, stopAfter(attempts+1))
					began := time.Now()
					err := l.Run(t.Context())
					require.Equal(t, time.Duration(attempts)*time.Second, time.Since(began))
					require.ErrorContains(t, err, "no more")
					var failed *listener.HandlerError
					require.ErrorAs(t, err, &failed)
					require.EqualValues(t, 5, failed.Number)
					require.Equal(t, attempts+1, failed.Attempts)
					require.Equal(t, attempts+1, calls)
					s.want(t, 0, 5)
					require.EqualValues(t, calls, l.Status().Failures)
				}
				stop := start(t, newTx(t, c, s, record))
				s.want(t, 0, 10)
				require.NoError(t, stop())
			})
		})
	}
}

func TestAFailureThatPassesIsRetriedAndAppliedOnce(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		broken, fails := errors.New("broken"), 3
		l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if err := record(ctx, p, e); err != nil || e.Event.Number != 5 || fails == 0 {
				return err
			}
			fails--
			return broken
		})
		stop := start(t, l)
		status := l.Status()
		require.Equal(t, listener.Retrying, status.State)
		require.Equal(t, broken, status.LastError, "without what the store has made of it")
		require.Equal(t, eventstore.After(4), status.Checkpoint)
		require.EqualValues(t, 5, status.Handled)
		time.Sleep(time.Minute)
		synctest.Wait()
		status = l.Status()
		require.Equal(t, listener.Following, status.State)
		require.NoError(t, status.LastError)
		require.EqualValues(t, 10, status.Handled)
		require.EqualValues(t, 3, status.Failures)
		s.want(t, 0, 10)
		require.NoError(t, stop())
	})
}

// A commit fails, or it happens and its answer is lost: only the store's checkpoint knows.
func TestACommitThatFailsIsTriedAgain(t *testing.T) {
	full := errors.New("disk full")
	for name, set := range map[string]func(s *ledger, f func() error){
		"nothing happened": func(s *ledger, f func() error) { s.before = f },
		"it happened":      func(s *ledger, f func() error) { s.after = f },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				write(t, c, 0, 10)
				s := newLedger()
				fails := 4
				set(s, func() error {
					if fails == 0 {
						return nil
					}
					fails--
					return full
				})
				l := newTx(t, c, s, record)
				stop := start(t, l)
				time.Sleep(time.Minute)
				synctest.Wait()
				s.want(t, 0, 10)
				write(t, c, 10, 2)
				synctest.Wait()
				s.want(t, 0, 12)
				require.Equal(t, eventstore.After(11), l.Status().Checkpoint)
				require.NoError(t, stop())
			})
		})
	}
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		s.before = func() error { return full }
		l := newTx(t, c, s, record, stopAfter(3))
		err := l.Run(t.Context())
		require.ErrorIs(t, err, full)
		require.EqualError(t, err, `listener "l": handle event 0@s, 3 attempts: the transaction: disk full`)
		s.want(t, 0, 0)
		require.Zero(t, l.Status().Handled)
	})
}

// careless is a store that makes no transaction.
type careless struct{ *ledger }

func (careless) InTx(context.Context, string, func(*page, eventstore.From) (eventstore.From, error)) error {
	return nil
}

func TestAStoreThatMakesNoTransactionIsNotBelieved(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1)
		l := newTx(t, c, careless{newLedger()}, record, stopAfter(1))
		require.ErrorContains(t, l.Run(t.Context()), "the store has made none")
		require.Zero(t, l.Status().Handled)
	})
}

func TestStopEndsTheTransactionBehindTheEvent(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		var l *listener.Listener
		l = newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 3 {
				l.Stop()
			}
			return record(ctx, p, e)
		})
		require.NoError(t, l.Run(t.Context()))
		s.want(t, 0, 4)
		require.EqualValues(t, 4, l.Status().Handled)
	})
}

func TestAnInterruptedTransactionIsRolledBack(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		s := newLedger()
		l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 3 {
				<-ctx.Done()
				return ctx.Err()
			}
			return record(ctx, p, e)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, l.Run(ctx))
		s.want(t, 0, 0)
		require.Zero(t, l.Status().Handled)
		require.Zero(t, l.Status().Failures)
	})
}

// Another process sits on the checkpoint for ever.
func TestTheEndDoesNotWaitForeverForATransaction(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLedger()
		stop := start(t, newTx(t, c, s, record))
		s.with(t, func() {
			write(t, c, 0, 1)
			synctest.Wait()
			began := time.Now()
			require.NoError(t, stop())
			require.Equal(t, 5*time.Second, time.Since(began))
		})
		s.want(t, 0, 0)
	})
}

func TestTheEndOfTheStreamComesBehindItsEvents(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLedger()
		l := newTx(t, c, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 0 {
				time.Sleep(time.Second)
			}
			return record(ctx, p, e)
		})
		done := make(chan error, 1)
		go func() { done <- l.Run(t.Context()) }()
		synctest.Wait()
		write(t, c, 0, 1)
		write(t, c, 1, 5)
		_, err := c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		require.ErrorIs(t, <-done, eventstore.ErrStreamDeleted)
		s.want(t, 0, 6)
	})
}

func TestBadTxConfigurationsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s, ok := newLedger(), listener.Config{Stream: "s"}
		for says, make := range map[string]func() (*listener.Listener, error){
			"no client":     func() (*listener.Listener, error) { return listener.NewTx(nil, ok, s, record) },
			"no handler":    func() (*listener.Listener, error) { return listener.NewTx[*page](c, ok, s, nil) },
			"no store":      func() (*listener.Listener, error) { return listener.NewTx(c, ok, nil, record) },
			"name is empty": func() (*listener.Listener, error) { return listener.NewTx(c, listener.Config{}, s, record) },
			"Store is set": func() (*listener.Listener, error) {
				return listener.NewTx(c, listener.Config{Stream: "s", Store: listener.MemoryStore()}, s, record)
			},
		} {
			_, err := make()
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
		}
	})
}
