package listener_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// runFanout runs f, and returns when it is confirmed a function that ends it and gives Run's error.
func runFanout(t *testing.T, f *listener.Fanout) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1) // one run
	ready := f.Attach(listener.AttachOptions{})
	go func() { done <- f.Run(ctx) }()
	require.NoError(t, ready.Ready(ctx))
	require.NoError(t, ready.Close())
	return func() error {
		cancel()
		return <-done
	}
}

// fanOut follows the stream s until the test ends.
func fanOut(t *testing.T, c *eventstore.Client, change ...func(*listener.FanoutConfig)) *listener.Fanout {
	t.Helper()
	cfg := listener.FanoutConfig{Stream: "s"}
	for _, f := range change {
		f(&cfg)
	}
	f, err := listener.NewFanout(c, cfg)
	require.NoError(t, err)
	stop := runFanout(t, f)
	t.Cleanup(func() { require.NoError(t, stop()) })
	return f
}

// gets takes the events with these numbers, in order.
func gets(t *testing.T, c *listener.Consumer, first, count int) {
	t.Helper()
	for i := first; i < first+count; i++ {
		e, err := c.Recv(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, i, e.Event.Number)
		require.Equal(t, fmt.Sprint(i), string(e.Event.Data))
		require.Equal(t, eventstore.After(int64(i)), c.Checkpoint())
	}
}

// getsNothing says that nothing comes for a second, which ends only that Recv.
func getsNothing(t *testing.T, c *listener.Consumer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	e, err := c.Recv(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%v", e)
}

// ends says that a consumer has ended with a cause, which it tells as often as it is asked.
func ends(t *testing.T, c *listener.Consumer, cause error) {
	t.Helper()
	for range 2 {
		_, err := c.Recv(t.Context())
		require.ErrorIs(t, err, cause)
		require.ErrorContains(t, err, `fan-out of "s": `)
	}
}

func TestAFanoutBeginsWithItsConfirmation(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 5)
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		early := f.Attach(listener.AttachOptions{})
		srv.Pause()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1) // one run
		go func() { done <- f.Run(ctx) }()
		short, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		require.ErrorIs(t, early.Ready(short), context.DeadlineExceeded)
		require.Equal(t, eventstore.End, early.Checkpoint())
		require.Equal(t, listener.FanoutStats{Consumers: 1}, f.Stats())

		srv.Resume()
		require.NoError(t, early.Ready(t.Context()))
		require.Equal(t, eventstore.After(4), early.Checkpoint())
		late := f.Attach(listener.AttachOptions{})
		require.NoError(t, late.Ready(t.Context()))
		require.Equal(t, eventstore.After(4), late.Checkpoint())
		write(t, c, 5, 3)
		gets(t, early, 5, 3)
		gets(t, late, 5, 3)
		getsNothing(t, early)
		s := f.Stats()
		require.True(t, s.Following)
		require.True(t, s.Subscription.Live)
		require.EqualValues(t, 3, s.Events)
		cancel()
		require.NoError(t, <-done)
	})
}

func TestConsumersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		var all []*listener.Consumer
		for i := range 5 { // each begins with the event behind its predecessor's
			one := f.Attach(listener.AttachOptions{Buffer: 3})
			require.Equal(t, eventstore.After(int64(i-1)) == one.Checkpoint(), i > 0, "%v", one.Checkpoint())
			all = append(all, one)
			write(t, c, i, 1)
			synctest.Wait()
			for n, other := range all {
				require.Equal(t, listener.ConsumerStats{Delivered: int64(i - n), Buffered: 1, Bytes: 1}, other.Stats())
				gets(t, other, i, 1)
			}
		}
		require.Equal(t, 5, f.Stats().Consumers)

		// One in the middle, the first and the last go, with something in the buffer or without; then the others are served alone.
		write(t, c, 5, 1)
		synctest.Wait()
		for _, n := range []int{2, 0, 4} {
			require.NoError(t, all[n].Close())
			require.NoError(t, all[n].Close(), "once more")
			ends(t, all[n], listener.ErrDetached)
			require.Zero(t, all[n].Stats().Buffered)
		}
		require.Equal(t, 2, f.Stats().Consumers)
		write(t, c, 6, 1)
		gets(t, all[1], 5, 2)
		gets(t, all[3], 5, 2)

		// One that comes again gets what is written from then on.
		again := f.Attach(listener.AttachOptions{})
		require.Equal(t, eventstore.After(6), again.Checkpoint())
		write(t, c, 7, 2)
		gets(t, again, 7, 2)
		getsNothing(t, again)
	})
}

// Consumers attach others and close themselves while events come.
func TestConsumersAttachConsumers(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		const generations = 50
		done := make(chan error, 1) // the last generation's, or the first error
		var follow func(one *listener.Consumer, generation int)
		follow = func(one *listener.Consumer, generation int) {
			e, err := one.Recv(t.Context())
			if err != nil || generation == generations {
				done <- errors.Join(err, one.Close())
				return
			}
			next := f.Attach(listener.AttachOptions{Buffer: 1})
			go follow(next, generation+1)
			err = one.Close()
			if err == nil {
				_, err = c.Append(t.Context(), "s", eventstore.ExpectedVersion(e.Event.Number), []eventstore.EventData{{Type: "next"}})
			}
			if err != nil {
				done <- err
			}
		}
		go follow(f.Attach(listener.AttachOptions{Buffer: 1}), 0)
		write(t, c, 0, 1)
		require.NoError(t, <-done)
		require.Zero(t, f.Stats().Consumers)
	})
}

// OnNotice is called where nothing is locked: it may attach, close and ask.
func TestANoticeAttachesAConsumer(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		var f *listener.Fanout
		var first, second *listener.Consumer
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s", OnNotice: func(n subscription.Notice) {
			if n.Kind == subscription.FellBehind {
				second = f.Attach(listener.AttachOptions{})
				require.NoError(t, first.Close())
				require.Equal(t, 1, f.Stats().Consumers)
			}
		}})
		require.NoError(t, err)
		first = f.Attach(listener.AttachOptions{})
		stop := runFanout(t, f)
		synctest.Wait()
		srv.Cut()
		synctest.Wait()
		write(t, c, 0, 3)
		gets(t, second, 0, 3)
		ends(t, first, listener.ErrDetached)
		require.NoError(t, stop())
	})
}

// A consumer that waits holds up everybody, in bounded memory, and nobody loses anything: not beyond the subscription's window
// either. When it goes, the others go on.
func TestWaitHoldsEverybodyUp(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %v", leaves), func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				const events, window, page = 6_000, 4096, 500
				var fell int
				f := fanOut(t, c, func(cfg *listener.FanoutConfig) {
					cfg.OnNotice = func(n subscription.Notice) {
						if n.Kind == subscription.FellBehind {
							require.ErrorIs(t, n.Err, eventstore.ErrOverflow)
							fell++
						}
					}
				})
				slow := f.Attach(listener.AttachOptions{Buffer: 2})
				quick := f.Attach(listener.AttachOptions{Buffer: events})
				for i := 0; i < events; i += 100 {
					write(t, c, i, 100)
				}
				synctest.Wait()
				require.Equal(t, 2, slow.Stats().Buffered)
				require.Equal(t, 3, quick.Stats().Buffered, "the event under way too, and none behind it")
				s := f.Stats()
				require.Equal(t, 1, s.Waiting)
				require.LessOrEqual(t, s.Subscription.Buffered, window+page)
				late := f.Attach(listener.AttachOptions{Buffer: events})
				require.Equal(t, eventstore.After(2), late.Checkpoint(), "behind the event under way")

				if leaves {
					require.NoError(t, slow.Close())
				} else {
					gets(t, slow, 0, events)
				}
				gets(t, quick, 0, events)
				gets(t, late, 3, events-3)
				synctest.Wait()
				require.Positive(t, fell, "it fell back to reading")
				require.Zero(t, f.Stats().Waiting)
				require.EqualValues(t, events, f.Stats().Events)
			})
		})
	}
}

func TestDropOldestTellsItsGaps(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 3)
		f := fanOut(t, c)
		one := f.Attach(listener.AttachOptions{OnOverflow: listener.DropOldest, Buffer: 4})
		gap := func(dropped int64, from, until int64) {
			t.Helper()
			_, err := one.Recv(t.Context())
			var g *listener.GapError
			require.ErrorAs(t, err, &g)
			require.Equal(t, &listener.GapError{Dropped: dropped, From: eventstore.After(from), Until: eventstore.After(until)}, g)
			require.Equal(t, g.Until, one.Checkpoint())
		}
		write(t, c, 3, 10) // 3 to 12
		synctest.Wait()
		gap(6, 2, 8)
		write(t, c, 13, 1) // between what was told and the next event
		synctest.Wait()
		gap(1, 8, 9)
		gets(t, one, 10, 2)
		write(t, c, 14, 2) // as much as there is room for
		gets(t, one, 12, 4)
		getsNothing(t, one)
		write(t, c, 16, 5)
		synctest.Wait()
		require.Equal(t, listener.ConsumerStats{Delivered: 6, Dropped: 8, Buffered: 4, Bytes: 8}, one.Stats())
		var told []error
		for _, err := range one.Events(t.Context()) {
			told = append(told, err)
		}
		require.Len(t, told, 1)
		require.EqualError(t, told[0], `1 events were dropped, from "after 15" until "after 16"`)
		taken := 0
		for e, err := range one.Events(t.Context()) { // and goes on behind it
			require.NoError(t, err)
			require.EqualValues(t, 17+taken, e.Event.Number)
			if taken++; taken == 4 {
				break
			}
		}
		// What was lost can be read.
		slice, err := c.ReadSlice(t.Context(), "s", eventstore.After(2), 6)
		require.NoError(t, err)
		require.EqualValues(t, 8, slice.Events[5].Event.Number)
	})
}

func TestDetachEndsBehindItsBuffer(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		slow := f.Attach(listener.AttachOptions{OnOverflow: listener.Detach, Buffer: 4})
		quick := f.Attach(listener.AttachOptions{OnOverflow: listener.Detach, Buffer: 10})
		write(t, c, 0, 4)
		gets(t, slow, 0, 1)
		write(t, c, 4, 6)
		synctest.Wait()
		require.Equal(t, 1, f.Stats().Consumers)
		require.Equal(t, 4, slow.Stats().Buffered)
		gets(t, slow, 1, 4)
		ends(t, slow, listener.ErrSlow)
		require.Equal(t, eventstore.After(4), slow.Checkpoint(), "where a subscription of its own would go on")
		require.NoError(t, slow.Close())
		ends(t, slow, listener.ErrSlow)
		gets(t, quick, 0, 10)
	})
}

// A buffer is bounded in bytes too, and an event that is larger than all of it gets through alone.
func TestBytesBoundABuffer(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		sizes := []int{40, 40, 40, 500, 10, 90, 1}
		wait := f.Attach(listener.AttachOptions{Bytes: 100})
		quick := f.Attach(listener.AttachOptions{})
		var events []eventstore.EventData
		for _, n := range sizes { // half of it in the metadata
			events = append(events, eventstore.EventData{Type: "large", Data: make([]byte, n-n/2), Metadata: make([]byte, n/2)})
		}
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, events)
		require.NoError(t, err)
		held := []int{80, 80, 40, 500, 100, 91, 1} // in front of each
		for i := range sizes {
			synctest.Wait()
			require.Equal(t, held[i], wait.Stats().Bytes, i)
			e, err := wait.Recv(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, i, e.Event.Number)
		}
		require.Zero(t, wait.Stats().Bytes)
		require.Equal(t, listener.ConsumerStats{Buffered: 7, Bytes: 721}, quick.Stats())
		require.NoError(t, wait.Close()) // or it would hold up what follows

		drop := f.Attach(listener.AttachOptions{Bytes: 100, OnOverflow: listener.DropOldest})
		_, err = c.Append(t.Context(), "s", 6, events[:5])
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, listener.ConsumerStats{Dropped: 4, Buffered: 1, Bytes: 10}, drop.Stats())
	})
}

// The line is cut before and behind each write: every event comes once and in order, to everybody.
func TestAFanoutOutlivesLosses(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		var told []subscription.Kind
		f := fanOut(t, c, func(cfg *listener.FanoutConfig) {
			cfg.OnNotice = func(n subscription.Notice) { told = append(told, n.Kind) }
		})
		a, b := f.Attach(listener.AttachOptions{}), f.Attach(listener.AttachOptions{Buffer: 1})
		for i := range 20 {
			if i%3 == 0 {
				srv.Cut()
			}
			write(t, c, i, 1)
			if i%3 == 1 {
				srv.Cut()
			}
			gets(t, b, i, 1)
		}
		gets(t, a, 0, 20)
		time.Sleep(time.Minute) // of the last loss
		getsNothing(t, a)
		getsNothing(t, b)
		synctest.Wait()
		require.Positive(t, f.Stats().Subscription.Resubscriptions)
		require.Contains(t, told, subscription.Resubscribed)
		require.Equal(t, subscription.CaughtUp, told[len(told)-1])
	})
}

// However a run ends, its consumers get what they have, then the cause; those that come later belong to the next run.
func TestTheEndOfARunEndsItsConsumers(t *testing.T) {
	for name, tt := range map[string]struct {
		end   func(t *testing.T, c *eventstore.Client)
		cause error
	}{
		"stopped":       {nil, listener.ErrStopped},
		"client closed": {func(t *testing.T, c *eventstore.Client) { t.Helper(); require.NoError(t, c.Close()) }, eventstore.ErrClosed},
		"hard delete": {func(t *testing.T, c *eventstore.Client) {
			t.Helper()
			_, err := c.HardDelete(t.Context(), "s", eventstore.Any)
			require.NoError(t, err)
		}, eventstore.ErrStreamDeleted},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
				f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1) // one run
				var consumers []*listener.Consumer
				for _, policy := range []listener.Overflow{listener.Wait, listener.DropOldest, listener.Detach} {
					consumers = append(consumers, f.Attach(listener.AttachOptions{OnOverflow: policy, Buffer: 3}))
				}
				waits := f.Attach(listener.AttachOptions{})
				waited := make(chan error, 1) // of the one that waits in Recv
				go func() { done <- f.Run(ctx) }()
				require.NoError(t, waits.Ready(ctx))
				write(t, c, 0, 3)
				gets(t, waits, 0, 3)
				go func() {
					_, err := waits.Recv(t.Context())
					waited <- err
				}()
				synctest.Wait()
				if tt.end == nil {
					cancel()
					require.NoError(t, <-done)
				} else {
					tt.end(t, c)
					require.ErrorIs(t, <-done, tt.cause)
				}
				cancel()
				require.ErrorIs(t, <-waited, tt.cause)
				require.Equal(t, listener.FanoutStats{Events: 3}, f.Stats())
				next := f.Attach(listener.AttachOptions{})
				for _, one := range consumers {
					gets(t, one, 0, 3)
					ends(t, one, tt.cause)
					require.NoError(t, one.Close())
					ends(t, one, tt.cause)
				}
				getsNothing(t, next)
				require.Equal(t, 1, f.Stats().Consumers)
			})
		})
	}
}

// The run that is held up by a consumer ends with its context all the same.
func TestARunThatIsHeldUpEnds(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		stop := runFanout(t, f)
		full, room := f.Attach(listener.AttachOptions{Buffer: 2}), f.Attach(listener.AttachOptions{})
		write(t, c, 0, 5)
		synctest.Wait()
		require.NoError(t, stop())
		gets(t, full, 0, 2)
		ends(t, full, listener.ErrStopped)
		require.Equal(t, eventstore.After(1), full.Checkpoint())
		gets(t, room, 0, 3)
		ends(t, room, listener.ErrStopped)
	})
}

// After a run another: its consumers get what is written from its confirmation on, and nothing of the time between.
func TestAFanoutRunsAgain(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		for run := range 3 {
			early := f.Attach(listener.AttachOptions{})
			stop := runFanout(t, f)
			require.EqualError(t, f.Run(t.Context()), `fan-out of "s": it is running already`)
			late := f.Attach(listener.AttachOptions{})
			write(t, c, 10*run, 5)
			for _, one := range []*listener.Consumer{early, late} {
				gets(t, one, 10*run, 5)
				getsNothing(t, one)
			}
			require.NoError(t, stop())
			ends(t, early, listener.ErrStopped)
			ends(t, late, listener.ErrStopped)
			write(t, c, 10*run+5, 5) // lost
		}
	})
}

// Who attaches first and then reads up to where it was attached has every event once, whatever is written meanwhile.
func TestHistoryMeetsTheFanout(t *testing.T) {
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		const events, newcomers = 400, 20
		f := fanOut(t, c)
		reader := srv.Client(t)
		done := make(chan error, newcomers) // what was wrong, from each; nobody closes it
		for i := range events {
			write(t, c, i, 1)
			if i%(events/newcomers) != 0 {
				continue
			}
			one := f.Attach(listener.AttachOptions{})
			go func() {
				done <- func() error {
					defer func() { _ = one.Close() }()
					if err := one.Ready(t.Context()); err != nil {
						return err
					}
					began, next := one.Checkpoint(), int64(0)
					for e, err := range reader.ReadStream(t.Context(), "s", eventstore.Start, eventstore.PageSize(7)) {
						if err != nil {
							return err
						}
						if after, err := e.Checkpoint().Compare(began); err != nil || after > 0 {
							break
						}
						if e.Event.Number != next {
							return fmt.Errorf("read %d, want %d", e.Event.Number, next)
						}
						next++
					}
					for ; next < events; next++ {
						if e, err := one.Recv(t.Context()); err != nil || e.Event.Number != next {
							return fmt.Errorf("want %d, got %v and %w", next, e.Event, err)
						}
					}
					return nil
				}()
			}()
		}
		for range newcomers {
			require.NoError(t, <-done)
		}
	})
}

// A run that is never confirmed tells those that wait for it why.
func TestARunThatIsRefusedIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		write(t, c, 0, 1)
		_, err := c.HardDelete(t.Context(), "s", eventstore.Any)
		require.NoError(t, err)
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		one := f.Attach(listener.AttachOptions{})
		done := make(chan error, 1) // of Ready
		go func() { done <- one.Ready(t.Context()) }()
		err = f.Run(t.Context())
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
		require.Equal(t, err, <-done)
		ends(t, one, eventstore.ErrStreamDeleted)
	})
	bubble(t, func(t *testing.T, srv *eventstoretest.Server, c *eventstore.Client) {
		srv.Pause()
		defer srv.Resume()
		f, err := listener.NewFanout(c, listener.FanoutConfig{Stream: "s"})
		require.NoError(t, err)
		one := f.Attach(listener.AttachOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, f.Run(ctx))
		require.ErrorIs(t, one.Ready(t.Context()), listener.ErrStopped)
	})
}

func TestAFanoutWithoutConsumers(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		for i := range 60 {
			write(t, c, 100*i, 100)
		}
		synctest.Wait()
		require.EqualValues(t, 6000, f.Stats().Events)
		require.Zero(t, f.Stats().Subscription.Buffered)
		one := f.Attach(listener.AttachOptions{})
		require.Equal(t, eventstore.After(5999), one.Checkpoint())
		write(t, c, 6000, 1)
		gets(t, one, 6000, 1)
	})
}

// One subscription to a category serves whoever wants all of it and whoever wants one stream, also of links that lead nowhere.
func TestConsumersOfOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := eventstoretest.Run(t, eventstoretest.InMemory(), eventstoretest.Projections())
		c := srv.Client(t)
		f := fanOut(t, c, func(cfg *listener.FanoutConfig) { cfg.Stream = "$ce-account" })
		all, none := f.Attach(listener.AttachOptions{}), f.Attach(listener.AttachOptions{Stream: "account-9"})
		of := map[string][]*listener.Consumer{}
		streams := []string{"account-0", "account-1", "account-2"}
		for _, stream := range streams {
			for range 2 {
				of[stream] = append(of[stream], f.Attach(listener.AttachOptions{Stream: stream, Buffer: 10}))
			}
		}
		const rounds = 10
		for round := range rounds {
			for _, stream := range streams {
				_, err := c.Append(t.Context(), stream, eventstore.ExpectedVersion(round-1), []eventstore.EventData{{Type: "t"}})
				require.NoError(t, err)
			}
			synctest.Wait()
		}
		seen := map[string]int64{}
		for i := range len(streams) * rounds {
			e, err := all.Recv(t.Context())
			require.NoError(t, err)
			require.Equal(t, eventstore.After(int64(i)), all.Checkpoint(), "the link's place")
			require.Equal(t, seen[e.Event.Stream], e.Event.Number)
			seen[e.Event.Stream]++
		}
		for stream, consumers := range of {
			for _, one := range consumers {
				for round := range rounds {
					e, err := one.Recv(t.Context())
					require.NoError(t, err)
					require.Equal(t, stream, e.Event.Stream)
					require.EqualValues(t, round, e.Event.Number)
				}
				getsNothing(t, one)
			}
		}
		require.Zero(t, none.Stats())
	})
}

// A link that leads nowhere comes as the link alone, to those too who want the stream that it names.
func TestLinksThatLeadNowhereGoToTheirStream(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		all, gone := f.Attach(listener.AttachOptions{}), f.Attach(listener.AttachOptions{Stream: "gone"})
		at := f.Attach(listener.AttachOptions{Stream: "a@b"})
		var links []eventstore.EventData
		for _, data := range []string{"0@gone", "no link", "@", "1@a@b", "2@gone", ""} {
			links = append(links, eventstore.EventData{Type: "$>", Data: []byte(data)})
		}
		_, err := c.Append(t.Context(), "s", eventstore.NoStream, links)
		require.NoError(t, err)
		for one, numbers := range map[*listener.Consumer][]int64{all: {0, 1, 2, 3, 4, 5}, gone: {0, 4}, at: {3}} {
			for _, n := range numbers {
				e, err := one.Recv(t.Context())
				require.NoError(t, err)
				require.Nil(t, e.Event)
				require.Equal(t, n, e.Link.Number)
				require.Equal(t, eventstore.After(n), one.Checkpoint())
			}
			getsNothing(t, one)
		}
	})
}

func TestBadFanoutsAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		_, err := listener.NewFanout(nil, listener.FanoutConfig{Stream: "s"})
		require.ErrorIs(t, err, eventstore.ErrArgument)
		_, err = listener.NewFanout(c, listener.FanoutConfig{})
		require.ErrorIs(t, err, eventstore.ErrArgument)
		f := fanOut(t, c)
		for _, opts := range []listener.AttachOptions{{Buffer: -1}, {Bytes: -1}, {OnOverflow: -1}, {OnOverflow: 3}} {
			one := f.Attach(opts)
			ends(t, one, eventstore.ErrArgument)
			require.ErrorIs(t, one.Ready(t.Context()), eventstore.ErrArgument)
			require.NoError(t, one.Close())
			ends(t, one, eventstore.ErrArgument)
		}
		require.Zero(t, f.Stats().Consumers)
		require.Equal(t, "Wait DropOldest Detach", fmt.Sprint(listener.Wait, listener.DropOldest, listener.Detach))
	})
}

// Ends of contexts end a wait and nothing else, also when there is always something to take.
func TestTheContextOfARecvEndsThatRecvAlone(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		one := f.Attach(listener.AttachOptions{})
		getsNothing(t, one)
		write(t, c, 0, 3)
		synctest.Wait()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := one.Recv(ended)
		require.ErrorIs(t, err, context.Canceled)
		gets(t, one, 0, 3)
		getsNothing(t, one)
	})
}

// Consumers cost no goroutine.
func TestAThousandConsumers(t *testing.T) {
	bubble(t, func(t *testing.T, _ *eventstoretest.Server, c *eventstore.Client) {
		f := fanOut(t, c)
		synctest.Wait()
		before := runtime.NumGoroutine()
		all := make([]*listener.Consumer, 1000)
		for i := range all {
			all[i] = f.Attach(listener.AttachOptions{})
		}
		write(t, c, 0, 20)
		synctest.Wait()
		require.LessOrEqual(t, runtime.NumGoroutine(), before)
		for _, one := range all {
			gets(t, one, 0, 20)
			require.NoError(t, one.Close())
		}
		require.Zero(t, f.Stats().Consumers)
	})
}
