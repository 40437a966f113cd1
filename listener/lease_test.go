package listener_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/storetest"
	"github.com/goeventstore/eventstore/listener"
)

// severable is a store that one instance cannot reach while it is severed.
type severable struct {
	storetest.LeaserStore
	severed *atomic.Bool
}

var errSevered = errors.New("severed")

func (s severable) check() error {
	if s.severed.Load() {
		return errSevered
	}
	return nil
}

func (s severable) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (listener.Lease, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	l, err := s.LeaserStore.Acquire(ctx, name, owner, ttl)
	return severableLease{l, s}, err
}

type severableLease struct {
	listener.Lease
	store severable
}

func (l severableLease) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := l.store.check(); err != nil {
		return err
	}
	return l.Lease.Save(ctx, name, at)
}

func (l severableLease) Renew(ctx context.Context) error {
	if err := l.store.check(); err != nil {
		return err
	}
	return l.Lease.Renew(ctx)
}

func (l severableLease) Release(ctx context.Context) error {
	if err := l.store.check(); err != nil {
		return err
	}
	return l.Lease.Release(ctx)
}

// instance is a listener called l in a process of its own.
type instance struct {
	*listener.Listener
	seen
	severed atomic.Bool
	handler listener.Handler // nil: seen's
}

func newInstance(t *testing.T, c *eventstore.Client, owner string) *instance {
	t.Helper()
	i := &instance{}
	store, ok := listener.StreamStore(c, "checkpoint-").(storetest.LeaserStore)
	require.True(t, ok)
	l, err := listener.New(c, listener.Config{
		Name: "l", Stream: "s", Store: severable{store, &i.severed}, Owner: owner, Backoff: constant,
	}, func(ctx context.Context, e eventstore.ResolvedEvent) error {
		if i.handler != nil {
			if err := i.handler(ctx, e); err != nil {
				return err
			}
		}
		return i.handle(ctx, e)
	})
	require.NoError(t, err)
	i.Listener = l
	return i
}

func TestOneOfManyInstancesWorks(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		var all [3]*instance
		var stops [3]func() error
		for i := range all {
			all[i] = newInstance(t, srv.Client(t), strconv.Itoa(i))
			stops[i] = start(t, all[i].Listener)
		}
		states := func() (s []listener.State) {
			synctest.Wait()
			for _, i := range all {
				s = append(s, i.Status().State)
			}
			return s
		}
		require.Equal(t, []listener.State{listener.Following, listener.Waiting, listener.Waiting}, states())
		time.Sleep(time.Hour)
		write(t, c, 10, 10)
		require.Equal(t, []listener.State{listener.Following, listener.Waiting, listener.Waiting}, states())
		all[0].want(t, 0, 20)

		require.NoError(t, stops[0]()) // it saves and releases
		time.Sleep(2 * time.Second)
		synctest.Wait()
		write(t, c, 20, 10)
		s := states()
		require.Equal(t, listener.Stopped, s[0])
		next := slices.Index(s, listener.Following)
		require.Positive(t, next)
		require.Equal(t, listener.Waiting, s[3-next])
		all[next].want(t, 20, 10)
		require.NoError(t, stops[1]())
		require.NoError(t, stops[2]())
		require.Empty(t, all[3-next].numbers)
	})
}

// The owner is silent, and a handler of it is under way: that has ended before the next owner begins, and what it would save
// then is not.
func TestASilentOwnerIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		began := time.Now()
		var interrupted, taken time.Duration
		first, second := newInstance(t, srv.Client(t), "first"), newInstance(t, srv.Client(t), "second")
		first.handler = func(ctx context.Context, e eventstore.ResolvedEvent) error {
			if e.Event.Number == 5 {
				<-ctx.Done()
				interrupted = time.Since(began)
				return nil // it has done, and that is not saved
			}
			return nil
		}
		second.handler = func(context.Context, eventstore.ResolvedEvent) error {
			if taken == 0 {
				taken = time.Since(began)
			}
			return nil
		}
		write(t, c, 0, 5)
		stops := []func() error{start(t, first.Listener), start(t, second.Listener)}
		time.Sleep(2 * time.Second) // 0 to 4 are saved
		first.severed.Store(true)
		write(t, c, 5, 5)
		time.Sleep(time.Minute)
		synctest.Wait()
		// The last renewal was by the save after a second; by the owner's clock it was when it asked for it, at first.
		require.Equal(t, 12*time.Second, interrupted)
		require.GreaterOrEqual(t, taken, 16*time.Second)
		require.Less(t, taken, 18*time.Second)
		first.want(t, 0, 6)
		second.want(t, 5, 5)
		require.Equal(t, listener.Waiting, first.Status().State)
		require.ErrorIs(t, first.Status().LastError, errSevered)

		first.severed.Store(false)
		require.NoError(t, stops[1]())
		time.Sleep(5 * time.Second)
		write(t, c, 10, 5)
		synctest.Wait()
		first.mu.Lock()
		require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14}, first.numbers)
		first.mu.Unlock()
		require.NoError(t, stops[0]())
	})
}

func TestAShortSilenceDisturbsNobody(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		first, second := newInstance(t, srv.Client(t), "first"), newInstance(t, srv.Client(t), "second")
		first.handler = func(ctx context.Context, _ eventstore.ResolvedEvent) error {
			<-ctx.Done()
			return ctx.Err()
		}
		stops := []func() error{start(t, first.Listener), start(t, second.Listener)}
		write(t, c, 0, 1)
		for range 20 {
			time.Sleep(6100 * time.Millisecond)
			first.severed.Store(true)
			time.Sleep(5 * time.Second)
			require.ErrorIs(t, first.Status().LastError, errSevered)
			first.severed.Store(false)
		}
		require.Equal(t, listener.Following, first.Status().State)
		require.Zero(t, first.Status().Failures, "the handler was not interrupted")
		require.Equal(t, listener.Waiting, second.Status().State)
		for _, stop := range stops {
			require.NoError(t, stop())
		}
		require.Empty(t, second.numbers)
	})
}

// A process stood still, and another has acquired the lease and gone on. What the old owner saves is refused; it waits, and
// goes on where the other one stopped.
func TestAPausedOwnerIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 10)
		i := newInstance(t, c, "old")
		stop := start(t, i.Listener)
		time.Sleep(2 * time.Second)
		other, err := json.Marshal(map[string]any{
			"at": "after 6", "lease": "00000000-0000-0000-0000-000000000001", "owner": "new", "ttlMilliseconds": 60_000,
		})
		require.NoError(t, err)
		_, err = c.Append(t.Context(), "checkpoint-l", eventstore.Any, []eventstore.EventData{{Type: "checkpoint", JSON: true, Data: other}})
		require.NoError(t, err)
		write(t, c, 10, 1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		status := i.Status()
		require.Equal(t, listener.Waiting, status.State)
		require.ErrorIs(t, status.LastError, listener.ErrFenced)
		require.ErrorContains(t, status.LastError, `"new" has it`)
		at, err := listener.StreamStore(c, "checkpoint-").Load(t.Context(), "l")
		require.NoError(t, err)
		require.Equal(t, eventstore.After(6), at)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, listener.Following, i.Status().State)
		i.mu.Lock()
		require.Equal(t, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 7, 8, 9, 10}, i.numbers)
		i.mu.Unlock()
		require.NoError(t, stop())
	})
}

// Stop comes when the lease is lost already: there is nothing left to save.
func TestAFencedOwnerStopsWell(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLeasedLedger()
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: s}, new(seen).handle)
		require.NoError(t, err)
		stop := start(t, l)
		s.mu.Lock()
		s.leases["l"] = &ledgerLease{ledger: s, name: "l", until: time.Now().Add(time.Hour)}
		s.mu.Unlock()
		write(t, c, 0, 1)
		synctest.Wait()
		require.NoError(t, stop())
		_, err = s.Load(t.Context(), "l")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint)
	})
}

// The policy's end is what Run returns, although the last save is refused.
func TestAFencedOwnerThatGivesUpSaysWhy(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := newLeasedLedger()
		broken := errors.New("broken")
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", Store: s, OnFailure: listener.RetryThenStop(1)},
			func(_ context.Context, e eventstore.ResolvedEvent) error {
				if e.Event.Number == 0 {
					return nil
				}
				s.mu.Lock()
				delete(s.leases, "l")
				s.mu.Unlock()
				return broken
			})
		require.NoError(t, err)
		write(t, c, 0, 2)
		err = l.Run(t.Context())
		require.EqualError(t, err, `listener "l": handle event 1@s, 1 attempts: broken`)
	})
}

func TestAnInstanceWaitsForItsStore(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		i := newInstance(t, c, "early")
		i.severed.Store(true)
		stop := start(t, i.Listener)
		time.Sleep(time.Hour)
		require.Equal(t, listener.Waiting, i.Status().State)
		require.ErrorContains(t, i.Status().LastError, "acquire the lease: severed")
		i.severed.Store(false)
		write(t, c, 0, 5)
		time.Sleep(time.Second)
		synctest.Wait()
		i.want(t, 0, 5)
		require.NoError(t, stop())

		stop = start(t, newInstance(t, c, "holds it").Listener)
		closed := srv.Client(t)
		waiting := newInstance(t, closed, "waits")
		done := make(chan error, 1)
		go func() { done <- waiting.Run(t.Context()) }()
		synctest.Wait()
		require.NoError(t, closed.Close())
		require.ErrorIs(t, <-done, eventstore.ErrClosed)
		require.NoError(t, stop())
	})
}

func TestBadLeasesAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		_, err := listener.New(c, listener.Config{Stream: "s", LeaseTTL: time.Millisecond}, new(seen).handle)
		require.ErrorContains(t, err, "LeaseTTL is below 10 ms")
		for says, s := range map[string]listener.Store{
			"no client":           listener.StreamStore(nil, "a-"),
			"the prefix is empty": listener.StreamStore(c, ""),
			"$$ are metadata":     listener.StreamStore(c, "$$a-"),
		} {
			l, err := listener.New(c, listener.Config{Stream: "s", Store: s}, new(seen).handle)
			require.NoError(t, err)
			err = l.Run(t.Context())
			require.ErrorIs(t, err, eventstore.ErrArgument)
			require.ErrorContains(t, err, says)
			require.ErrorIs(t, s.Save(t.Context(), "a", eventstore.After(1)), eventstore.ErrArgument)
		}
		// The leases of its store make transactions of another kind, or none.
		l, err := listener.NewTx(c, listener.Config{Name: "l", Stream: "s"}, poorLeaser{newLedger()}, record)
		require.NoError(t, err)
		require.ErrorContains(t, l.Run(t.Context()), "stands in for the store and makes no transactions of its kind")
	})
}

// poorLeaser has leases without transactions.
type poorLeaser struct{ *ledger }

func (p poorLeaser) Acquire(context.Context, string, string, time.Duration) (listener.Lease, error) {
	return poorLease{p.ledger}, nil
}

type poorLease struct{ listener.Store }

func (poorLease) Renew(context.Context) error   { return nil }
func (poorLease) Release(context.Context) error { return nil }

func TestAStreamThatHoldsNoCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := listener.StreamStore(c, "a-")
		for i, e := range []eventstore.EventData{
			{Type: "other", Data: []byte("{}")},
			{Type: "checkpoint", Data: []byte("{")},
			{Type: "checkpoint", Data: []byte(`{"at": "nowhere"}`)},
		} {
			_, err := c.Append(t.Context(), "a-l", eventstore.Any, []eventstore.EventData{e})
			require.NoError(t, err)
			says := fmt.Sprintf("event %d@a-l", i)
			_, err = s.Load(t.Context(), "l")
			require.ErrorContains(t, err, says)
			require.NotErrorIs(t, err, listener.ErrNoCheckpoint)
			require.ErrorContains(t, s.Save(t.Context(), "l", eventstore.After(1)), says)
		}
		_, err := c.Delete(t.Context(), "a-l", eventstore.Any)
		require.NoError(t, err)
		_, err = s.Load(t.Context(), "l")
		require.ErrorIs(t, err, listener.ErrNoCheckpoint)
		require.NoError(t, s.Save(t.Context(), "l", eventstore.After(1)), "as its text says: delete it to begin anew")
	})
}

func TestACheckpointsStreamStaysShort(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		s := listener.StreamStore(c, "a-")
		for n := range 100 {
			require.NoError(t, s.Save(t.Context(), "l", eventstore.After(int64(n))))
		}
		readable := 0
		for _, err := range c.ReadStream(t.Context(), "a-l", eventstore.Start) {
			require.NoError(t, err)
			readable++
		}
		require.Equal(t, 10, readable)

		// What somebody has chosen stays.
		_, err := c.SetMetadata(t.Context(), "a-m", eventstore.NoStream, eventstore.StreamMetadata{MaxCount: 3})
		require.NoError(t, err)
		require.NoError(t, s.Save(t.Context(), "m", eventstore.After(1)))
		m, err := c.Metadata(t.Context(), "a-m")
		require.NoError(t, err)
		require.EqualValues(t, 3, m.MaxCount)
	})
}

// Three instances work with transactions, stand still longer than their leases last, fail, and stop and begin again: each
// effect is there once, in order, and no owner's are between another's. SEEDS says how many times, SEED which.
func TestLeasesUnderFire(t *testing.T) {
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				const events = 200
				random := rand.New(rand.NewPCG(seed, 2))
				s := newLeasedLedger()
				calm := false
				odds := func(one int) bool { return !calm && random.IntN(one) == 0 } // in the ledger's turn
				s.before = func() error {
					if odds(20) {
						return errors.New("a bad day")
					}
					return nil
				}
				begin := func() func() error {
					var most int
					s.with(t, func() { most = 1 + random.IntN(10) })
					l, err := listener.NewTx(c, listener.Config{
						Name: "l", Stream: "s", Backoff: constant, SaveEvery: most, LeaseTTL: 5 * time.Second,
					}, s, func(ctx context.Context, p *page, e eventstore.ResolvedEvent) error {
						if odds(20) {
							time.Sleep(time.Duration(random.IntN(15)) * time.Second) // it heeds no context
						}
						if odds(40) {
							return errors.New("a bad day")
						}
						s.mu.Lock()
						owner := s.leases["l"].number
						s.mu.Unlock()
						p.values["owner of "+strconv.FormatInt(e.Event.Number, 10)] = strconv.Itoa(owner)
						return record(ctx, p, e)
					})
					require.NoError(t, err)
					return start(t, l)
				}
				write(t, c, 0, 1)
				stops := []func() error{begin(), begin(), begin()}
				for written := 1; written < events; {
					var what, n int
					s.with(t, func() { what, n = random.IntN(8), 1+random.IntN(20) })
					switch what {
					case 0:
						srv.Cut()
					case 1, 2, 3:
						require.NoError(t, stops[what-1]())
						stops[what-1] = begin()
					case 4: // a process stood still: its lease is somebody else's
						s.with(t, func() {
							s.mu.Lock()
							delete(s.leases, "l")
							s.mu.Unlock()
						})
					default:
						time.Sleep(time.Duration(n) * time.Second)
						n = min(n, events-written)
						write(t, c, written, n)
						written += n
					}
				}
				s.with(t, func() { calm = true })
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				s.want(t, 0, events)
				for _, stop := range stops {
					require.NoError(t, stop())
				}
				last, owners := 0, 0
				for n := range events {
					owner, err := strconv.Atoi(s.page.values["owner of "+strconv.Itoa(n)])
					require.NoError(t, err)
					require.GreaterOrEqual(t, owner, last, "event %d has effects of an owner that had lost its lease", n)
					if owner > last {
						owners++
					}
					last = owner
				}
				require.Greater(t, owners, 1)
			})
		})
	}
}
