package listener_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// told is a handler that keeps what it got as number@stream.
type told struct {
	mu  sync.Mutex
	all []string
}

func (s *told) handle(_ context.Context, e eventstore.ResolvedEvent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprintf("%d@%s", e.Event.Number, e.Event.Stream))
	return nil
}

func to(t *testing.T, c *eventstore.Client, stream string, types ...string) {
	t.Helper()
	var events []eventstore.EventData
	for _, typ := range types {
		events = append(events, eventstore.EventData{Type: typ})
	}
	_, err := c.Append(t.Context(), stream, eventstore.Any, events)
	require.NoError(t, err)
}

// accounts is of $all what a category would have.
func accounts(cfg *listener.Config) {
	filter := eventstore.StreamPrefix("account-")
	cfg.Stream, cfg.Filter = eventstore.All, &filter
}

// Each kind of listener follows $all by a prefix, over runs, and its checkpoint moves over what is not picked.
func TestEverythingByPrefix(t *testing.T) {
	kinds := map[string]func(t *testing.T, c *eventstore.Client, cfg listener.Config, s *ledger, got *told) *listener.Listener{
		"one by one": func(t *testing.T, c *eventstore.Client, cfg listener.Config, s *ledger, got *told) *listener.Listener {
			t.Helper()
			cfg.Store = s
			l, err := listener.New(c, cfg, got.handle)
			require.NoError(t, err)
			return l
		},
		"batch": func(t *testing.T, c *eventstore.Client, cfg listener.Config, s *ledger, got *told) *listener.Listener {
			t.Helper()
			cfg.Store = s
			l, err := listener.NewBatch(c, cfg, func(ctx context.Context, batch []eventstore.ResolvedEvent) error {
				for _, e := range batch {
					if err := got.handle(ctx, e); err != nil {
						return err
					}
				}
				return nil
			})
			require.NoError(t, err)
			return l
		},
		"parallel": func(t *testing.T, c *eventstore.Client, cfg listener.Config, s *ledger, got *told) *listener.Listener {
			t.Helper()
			cfg.Store, cfg.Parallel = s, 3
			cfg.Key = func(eventstore.ResolvedEvent) string { return "" } // so that they come in order
			l, err := listener.New(c, cfg, got.handle)
			require.NoError(t, err)
			return l
		},
		"transactions": func(t *testing.T, c *eventstore.Client, cfg listener.Config, s *ledger, got *told) *listener.Listener {
			t.Helper()
			l, err := listener.NewTx(c, cfg, s, func(ctx context.Context, _ *page, e eventstore.ResolvedEvent) error { return got.handle(ctx, e) })
			require.NoError(t, err)
			return l
		},
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
				to(t, c, "account-1", "opened", "changed")
				to(t, c, "other", "opened")
				to(t, c, "account-2", "opened")
				s, got := newLedger(), &told{}
				cfg := listener.Config{Name: "l"}
				accounts(&cfg)
				l := make(t, c, cfg, s, got)
				stop := start(t, l)
				to(t, c, "account-1", "changed")
				srv.Cut()
				time.Sleep(time.Minute)
				to(t, c, "account-3", "opened")
				time.Sleep(2 * time.Second)
				synctest.Wait()
				want := []string{"0@account-1", "1@account-1", "0@account-2", "2@account-1", "0@account-3"}
				require.Equal(t, want, got.all)
				place := func() (at eventstore.From) {
					time.Sleep(time.Minute)
					synctest.Wait()
					s.with(t, func() { at = s.page.places["l"] })
					return at
				}
				before := place()
				for range 200 {
					to(t, c, "other", "changed")
				}
				after := place()
				moved, err := after.Compare(before)
				require.NoError(t, err)
				require.Equal(t, 1, moved, "%v, then %v", before, after)
				require.Equal(t, after, l.Status().Checkpoint)
				require.NoError(t, stop())
				to(t, c, "account-1", "closed")
				require.NoError(t, start(t, make(t, c, cfg, s, got))())
				require.Equal(t, append(want, "3@account-1"), got.all)
			})
		})
	}
}

func TestPatchesOfEverything(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		var places []eventstore.From
		for i := range 6 {
			to(t, c, fmt.Sprintf("account-%d", i), "opened")
			to(t, c, "other", "opened")
		}
		cfg := listener.Config{Name: "l"}
		accounts(&cfg)
		l, err := listener.New(c, cfg, func(_ context.Context, e eventstore.ResolvedEvent) error {
			places = append(places, e.Checkpoint())
			return nil
		})
		require.NoError(t, err)
		stop := start(t, l)
		require.Len(t, places, 6)
		var got told
		at, err := l.Patch(t.Context(), places[1], places[3], got.handle)
		require.NoError(t, err)
		require.Equal(t, places[3], at)
		require.Equal(t, []string{"0@account-2", "0@account-3"}, got.all)
		got.all = nil
		_, err = l.Patch(t.Context(), eventstore.Start, eventstore.End, got.handle)
		require.NoError(t, err)
		require.Len(t, got.all, 6)
		require.NoError(t, stop())
	})
}

// A filter on a stream is the client's, and picks by the target of a link.
func TestAStreamByType(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		to(t, c, "account-1", "opened", "changed", "opened")
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, []eventstore.EventData{
			{Type: "$>", Data: []byte("0@account-1")}, {Type: "$>", Data: []byte("1@account-1")}, {Type: "$>", Data: []byte("2@account-1")},
		})
		require.NoError(t, err)
		filter := eventstore.EventTypePrefix("opened")
		var got, patched told
		l, err := listener.New(c, listener.Config{Stream: "s", Filter: &filter}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		want := []string{"0@account-1", "2@account-1"}
		require.Equal(t, want, got.all)
		_, err = l.Patch(t.Context(), eventstore.Start, eventstore.End, patched.handle)
		require.NoError(t, err)
		require.Equal(t, want, patched.all)
		require.NoError(t, stop())
	})
}

// What a listener of everything parks would come back to it.
func TestAListenerOfEverythingDoesNotGetWhatItParks(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		to(t, c, "account-1", "opened")
		calls := 0
		l, err := listener.New(c, listener.Config{
			Name: "l", Stream: eventstore.All, From: eventstore.End, Backoff: constant, OnFailure: listener.RetryThenPark(2, "parked"),
		}, func(context.Context, eventstore.ResolvedEvent) error { calls++; return errors.New("no more") })
		require.NoError(t, err)
		stop := start(t, l)
		to(t, c, "account-1", "closed")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 2, calls)
		require.Len(t, failures(t, c, "parked"), 1)
		require.NoError(t, stop())
	})
}

// A category and an event type, by the server's projections.
func TestACategoryAndAnEventType(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory(), eventstoretest.Projections())
		c := srv.Client(t)
		categories, types := &told{}, &told{}
		for stream, got := range map[string]*told{"$ce-account": categories, "$et-opened": types} {
			l, err := listener.New(c, listener.Config{Stream: stream}, got.handle)
			require.NoError(t, err)
			stop := start(t, l)
			defer func() { require.NoError(t, stop()) }()
		}
		to(t, c, "account-1", "opened", "changed")
		to(t, c, "other-1", "opened")
		to(t, c, "account-2", "opened")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"0@account-1", "1@account-1", "0@account-2"}, categories.all)
		require.Equal(t, []string{"0@account-1", "0@other-1", "0@account-2"}, types.all)
	})
}

// Who may not read is told why, and what to do: once, whether he is refused when he subscribes or when he reads.
func TestARefusalHasAHint(t *testing.T) {
	for _, reading := range []bool{false, true} {
		bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
			nobody := srv.Client(t, eventstore.WithCredentials("", ""))
			if reading { // who subscribes is let in
				nobody = c
				srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
					switch f.Command {
					case messages.ReadStreamEventsForwardCompleted:
						return eventstoretest.Replace(f.Command, []byte{0x10, 5, 0x18, 0, 0x20, 0, 0x28, 0, 0x30, 0})
					case messages.ReadAllEventsForwardCompleted:
						return eventstoretest.Replace(f.Command, []byte{0x08, 0, 0x10, 0, 0x20, 0, 0x28, 0, 0x30, 3})
					}
					return eventstoretest.Pass
				})
			}
			for _, stream := range []string{eventstore.All, "$ce-account", "$et-opened"} {
				l, err := listener.New(nobody, listener.Config{Stream: stream}, new(told).handle)
				require.NoError(t, err)
				err = l.Run(t.Context())
				require.ErrorIs(t, err, eventstore.ErrAccessDenied, stream)
				require.Equal(t, 1, strings.Count(err.Error(), "for administrators"), "%v", err)
				require.Equal(t, reading, strings.Contains(err.Error(), "read \""), "%v", err)
			}
		})
	}
}

func TestACheckpointBeyondTheEndIsAnError(t *testing.T) {
	for name, c := range map[string]struct {
		there int
		says  string
	}{
		"a shorter stream": {5, "the checkpoint is beyond the end of the stream: it is after 41, and the last event ends after 4."},
		"no stream":        {0, "the checkpoint is beyond the end of the stream: it is after 41, and there is no event."},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, client *eventstore.Client) {
				if c.there > 0 {
					write(t, client, 0, c.there)
				}
				var got seen
				store := listener.MemoryStore()
				require.NoError(t, store.Save(t.Context(), "l", eventstore.After(41)))
				cfg := listener.Config{Name: "l", Stream: "s", Store: store}
				l, err := listener.New(client, cfg, got.handle)
				require.NoError(t, err)
				began := time.Now()
				err = l.Run(t.Context())
				require.Equal(t, 10*time.Second, time.Since(began), "a node that follows may not have come as far")
				var beyond *listener.BeyondEndError
				require.ErrorAs(t, err, &beyond)
				require.ErrorIs(t, err, listener.ErrBeyondEnd)
				require.Equal(t, eventstore.After(41), beyond.Checkpoint)
				require.ErrorContains(t, err, c.says)
				got.want(t, 0, 0)
				require.NoError(t, store.Save(t.Context(), "l", eventstore.Start))
				require.NoError(t, start(t, l)())
				got.want(t, 0, c.there)
			})
		})
	}
}

// A place that is configured may be one to come, and a follower may come as far in time.
func TestWhatIsNotBeyondTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		var got seen
		l, err := listener.New(c, listener.Config{Name: "l", Stream: "s", From: eventstore.After(6)}, got.handle)
		require.NoError(t, err)
		stop := start(t, l)
		time.Sleep(time.Minute)
		write(t, c, 5, 3)
		synctest.Wait()
		got.want(t, 7, 1)
		require.NoError(t, stop())

		store := listener.MemoryStore()
		require.NoError(t, store.Save(t.Context(), "l", eventstore.After(8)))
		got.numbers = nil
		l, err = listener.New(c, listener.Config{Name: "l", Stream: "s", Store: store}, got.handle)
		require.NoError(t, err)
		stop = start(t, l)
		time.Sleep(5 * time.Second)
		require.ErrorIs(t, l.Status().LastError, listener.ErrBeyondEnd)
		write(t, c, 8, 2)
		time.Sleep(time.Minute)
		got.want(t, 9, 1)
		require.NoError(t, stop())
	})
}

// The server comes back with another database while the listener runs.
func TestADatabaseThatIsReplacedIsNoticed(t *testing.T) {
	for _, stream := range []string{"s", eventstore.All} {
		for _, parallel := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s parallel %d", stream, parallel), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					network := memnet.New()
					start := func() *server.Server {
						srv, err := server.Start(server.Config{TCP: "server:1113", HTTP: server.Off, Listen: func(n, addr string) (net.Listener, error) {
							return network.Listen(n, addr)
						}})
						require.NoError(t, err)
						return srv
					}
					srv := start()
					c, err := eventstore.Connect(t.Context(), "tcp://admin:changeit@server:1113", eventstore.WithDialer(network.Dial))
					require.NoError(t, err)
					defer func() { require.NoError(t, c.Close()) }()
					write(t, c, 0, 30)
					l, err := listener.New(c, listener.Config{Stream: stream, Parallel: parallel}, new(told).handle)
					require.NoError(t, err)
					done := make(chan error, 1)
					go func() { done <- l.Run(t.Context()) }()
					time.Sleep(time.Minute)
					require.NoError(t, srv.Close())
					srv = start()
					defer func() { require.NoError(t, srv.Close()) }()
					write(t, c, 0, 1)
					require.ErrorIs(t, <-done, listener.ErrBeyondEnd)
					require.ErrorIs(t, l.Status().LastError, listener.ErrBeyondEnd)
				})
			})
		}
	}
}
