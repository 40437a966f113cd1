package conformance_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/subscription"
)

// crowd appends to a stream from several goroutines at once; wait returns what each number holds.
func crowd(ctx context.Context, client *eventstore.Client, stream string, writers, each int) (wait func(*testing.T) map[int64]string) {
	type stored struct {
		first int64
		names []string
		err   error
	}
	done := make(chan stored, writers*each) // each append is one; nobody closes it
	for w := range writers {
		go func() {
			for i := range each {
				names := []string{fmt.Sprintf("%d-%d-a", w, i), fmt.Sprintf("%d-%d-b", w, i)}
				result, err := client.Append(ctx, stream, eventstore.Any, []eventstore.EventData{
					{Type: "t", Data: []byte(names[0])}, {Type: "t", Data: []byte(names[1])},
				})
				done <- stored{int64(result.First), names, err}
			}
		}()
	}
	return func(t *testing.T) map[int64]string {
		t.Helper()
		at := map[int64]string{}
		for range writers * each {
			s := <-done
			require.NoError(t, s.err)
			for i, name := range s.names {
				require.NotContains(t, at, s.first+int64(i))
				at[s.first+int64(i)] = name
			}
		}
		require.Len(t, at, 2*writers*each)
		return at
	}
}

func openSubscription(t *testing.T, client *eventstore.Client, cfg subscription.Config) *subscription.Subscription {
	t.Helper()
	sub, err := subscription.Open(within(t), client, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sub.Close()) })
	return sub
}

// TestSubscriptions: from each place, while many write: every event once and in order.
func TestSubscriptions(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client, writer := srv.Client(t), srv.Client(t)
	stream := newStream("live")
	const before, writers, each = 20, 4, 50
	_, err := writer.Append(ctx, stream, eventstore.NoStream, numbered(0, before))
	require.NoError(t, err)
	type follower struct {
		*subscription.Subscription
		from eventstore.From
		next int64
	}
	var followers []*follower
	follow := func(from eventstore.From, first int64) {
		followers = append(followers, &follower{
			openSubscription(t, client, subscription.Config{Stream: stream, From: from, PageSize: 10}), from, first,
		})
	}
	follow(eventstore.Start, 0)
	follow(eventstore.At(0), 0)
	follow(eventstore.After(0), 1)
	follow(eventstore.At(7), 7)
	follow(eventstore.After(before-1), before)
	follow(eventstore.End, before)
	wait := crowd(ctx, writer, stream, writers, each)
	follow(eventstore.Start, 0) // in the middle of it
	at := wait(t)
	for i := range int64(before) {
		at[i] = fmt.Sprint(i)
	}
	last := int64(before + 2*writers*each - 1)
	for _, f := range followers {
		for ; f.next <= last; f.next++ {
			e, err := f.Recv(ctx)
			require.NoError(t, err)
			require.Equal(t, f.next, e.Event.Number, "from %s", f.from)
			require.Equal(t, at[f.next], string(e.Event.Data))
			require.Equal(t, stream, e.Event.Stream)
		}
		require.Equal(t, eventstore.After(last), f.Checkpoint())
	}
	// And nothing behind it: the next is the one that is written now.
	_, err = writer.Append(ctx, stream, eventstore.ExpectedVersion(last), numbered(0, 1))
	require.NoError(t, err)
	for _, f := range followers {
		e, err := f.Recv(ctx)
		require.NoError(t, err)
		require.Equal(t, last+1, e.Event.Number, "from %s", f.from)
	}
}

func TestSubscriptionToAMissingStream(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	for _, from := range []eventstore.From{eventstore.Start, eventstore.End} {
		stream := newStream("later")
		sub := openSubscription(t, client, subscription.Config{Stream: stream, From: from})
		for i := range 3 {
			_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(i-1), numbered(i, 1))
			require.NoError(t, err)
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			isNumbered(t, i, e)
		}
	}
}

// TestDeletesUnderASubscription: a soft delete is no event, and what is written then goes on; a hard one is the end.
func TestDeletesUnderASubscription(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("deleted")
	_, err := client.Append(ctx, stream, eventstore.NoStream, numbered(0, 2))
	require.NoError(t, err)
	sub := openSubscription(t, client, subscription.Config{Stream: stream})
	for i := range 2 {
		e, err := sub.Recv(ctx)
		require.NoError(t, err)
		isNumbered(t, i, e)
	}
	_, err = client.Delete(ctx, stream, 1)
	require.NoError(t, err)
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(2, 1))
	require.NoError(t, err)
	e, err := sub.Recv(ctx)
	require.NoError(t, err)
	isNumbered(t, 2, e)
	_, err = client.HardDelete(ctx, stream, 2)
	require.NoError(t, err)
	for range 2 {
		_, err = sub.Recv(ctx)
		require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	}
	_, err = subscription.Open(ctx, client, subscription.Config{Stream: stream})
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
}

func TestSubscriptionIsDenied(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	_, err := subscription.Open(ctx, client, subscription.Config{
		Stream: newStream("wrong password"), Call: []eventstore.CallOption{eventstore.As("admin", "not the password")},
	})
	require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
	p := dialPeer(t, srv)
	a := p.call(subscribeTo("$" + newStream("system")))
	require.Equal(t, messages.SubscriptionDropped, a.command)
	require.Equal(t, []byte{8, 1}, a.body, "access denied")
	a = p.call(subscribeTo("")) // to all
	require.Equal(t, messages.SubscriptionDropped, a.command)
	require.Equal(t, []byte{8, 1}, a.body, "access denied")
}

// TestClosedSubscription: a Recv that waits ends, and other subscriptions of the connection do not notice.
func TestClosedSubscription(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("closed")
	closed := openSubscription(t, client, subscription.Config{Stream: stream, From: eventstore.End})
	open := openSubscription(t, client, subscription.Config{Stream: stream, From: eventstore.End})
	ended := make(chan error, 1) // of one Recv
	go func() {
		_, err := closed.Recv(ctx)
		ended <- err
	}()
	require.NoError(t, closed.Close())
	err := <-ended
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.NoError(t, err)
	e, err := open.Recv(ctx)
	require.NoError(t, err)
	isNumbered(t, 0, e)
}

func TestManySubscriptionsOnOneConnection(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	const n, each = 50, 5
	streams := make([]string, n)
	subs := make([]*subscription.Subscription, n)
	for i := range n {
		streams[i] = newStream("many")
		subs[i] = openSubscription(t, client, subscription.Config{Stream: streams[i], From: eventstore.End})
	}
	all := openSubscription(t, client, subscription.Config{Stream: streams[0], From: eventstore.Start})
	for round := range each {
		for _, stream := range streams {
			_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(round-1), numbered(round, 1))
			require.NoError(t, err)
		}
	}
	for i, sub := range slices.Concat(subs, []*subscription.Subscription{all}) {
		for round := range each {
			e, err := sub.Recv(ctx)
			require.NoError(t, err)
			require.Equal(t, streams[i%n], e.Event.Stream)
			isNumbered(t, round, e)
		}
	}
}

// TestSubscriptionOverACut: the events before, during and after a cut come once and in order.
func TestSubscriptionOverACut(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	client := srv.Client(t)
	stream := newStream("cut")
	sub := openSubscription(t, client, subscription.Config{Stream: stream})
	for i := range 9 {
		if i%3 == 2 {
			srv.Cut()
		}
		_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(i-1), numbered(i, 1))
		require.NoError(t, err)
		e, err := sub.Recv(ctx)
		require.NoError(t, err)
		isNumbered(t, i, e)
	}
}

// TestRawSubscription: the confirmation, the events with their positions, and the end.
func TestRawSubscription(t *testing.T) {
	srv := serve(t)
	p, w := dialPeer(t, srv), dialPeer(t, srv)
	for s, last := range map[state]int64{missing: -1, existing: 2, softDeleted: 2, hardDeleted: messages.DeletedNumber} {
		_, confirmation := p.subscribe(p.in(s))
		require.NotNil(t, confirmation.LastEventNumber, s)
		require.Equal(t, last, confirmation.GetLastEventNumber(), s)
		require.NotNil(t, confirmation.LastCommitPosition, s)
	}

	stream := newStream("raw")
	id, _ := p.subscribe(stream)
	m := w.append(stream, -1, "a", "b")
	written(t, m, 0, 1)
	var commits []int64
	for i, name := range []string{"a", "b"} {
		e := p.event(id)
		require.EqualValues(t, i, e.GetEvent().GetEventNumber())
		require.Equal(t, name, string(e.GetEvent().GetData()))
		require.Nil(t, e.Link)
		require.Equal(t, e.GetCommitPosition(), e.GetPreparePosition())
		require.Positive(t, e.GetEvent().GetCreated())
		commits = append(commits, e.GetCommitPosition())
	}
	require.Less(t, commits[0], commits[1])
	require.Equal(t, m.GetCommitPosition(), commits[1], "of the last event of the batch")

	// None of these is an event of the stream: the next is c.
	recognized(t, w.append(stream, -1, "a", "b"), 0, 1)
	wrong(t, w.append(stream, 7, "x"), 1)
	written(t, w.append(stream, 1), 2, 1)
	require.Equal(t, messages.Success, w.metadata(stream, `{"k":1}`).GetResult())
	require.Equal(t, messages.Success, w.delete(stream, 1, false).GetResult())
	own := p.send(&messages.Append{Stream: stream, Expected: 1, Events: p.named("c"), RequireLeader: true})
	require.EqualValues(t, 2, p.event(id).GetEvent().GetEventNumber(), "its own write too, before or after the answer")
	require.Equal(t, messages.WriteEventsCompleted, p.reply(own).command)

	require.Equal(t, messages.Success, w.delete(stream, 2, true).GetResult())
	e := p.event(id)
	require.Equal(t, messages.DeletedNumber, e.GetEvent().GetEventNumber())
	require.Equal(t, "$streamDeleted", e.GetEvent().GetEventType())

	p.unsubscribe(id)
}

// TestUnsubscribe: the drop is the last of a subscription, and an id without one is not answered.
func TestUnsubscribe(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	stream := newStream("unsubscribe")
	id, _ := p.subscribe(stream)
	still, _ := p.subscribe(stream)
	p.unsubscribe(id)
	written(t, p.append(stream, -1, "a"), 0, 0)
	require.EqualValues(t, 0, p.event(still).GetEvent().GetEventNumber())
	p.write(p.frame(id, messages.Raw(messages.UnsubscribeFromStream, nil)))     // a second time
	p.write(p.frame(p.id(), messages.Raw(messages.UnsubscribeFromStream, nil))) // an unknown one
	p.alive()
	p.unsubscribe(still)
	_, err := p.take(0, func(answer) bool { return true })
	require.ErrorIs(t, err, errNothing)
}

func (p *peer) unsubscribe(id messages.ID) {
	p.t.Helper()
	p.write(p.frame(id, messages.Raw(messages.UnsubscribeFromStream, nil)))
	a := p.reply(id)
	require.Equal(p.t, messages.SubscriptionDropped, a.command, "%s", a)
	require.Empty(p.t, a.body)
}
