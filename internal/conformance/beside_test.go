package conformance_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/persistent"
)

// TestReadingBesideWriting: one connection writes events one by one while the stream, which is long already, is read
// from its start again and again: each read has all that was acknowledged before it began, in order.
func TestReadingBesideWriting(t *testing.T) {
	const before, single = 5000, 500
	ctx := within(t)
	client := serve(t).Client(t)
	stream := newStream("beside")
	for n := 0; n < before; n += 500 {
		_, err := client.Append(ctx, stream, eventstore.ExpectedVersion(n-1), numbered(n, 500))
		require.NoError(t, err)
	}
	written := make(chan int, single) // one for each append, closed behind the last
	go func() {
		defer close(written)
		for n := before; n < before+single; n++ {
			if _, err := client.Append(ctx, stream, eventstore.ExpectedVersion(n-1), numbered(n, 1)); err != nil {
				t.Error(err)
				return
			}
			written <- n + 1
		}
	}()
	acknowledged := before
	for more := true; more; {
		n := 0
		for e, err := range client.ReadStream(ctx, stream, eventstore.Start, eventstore.PageSize(1000)) {
			require.NoError(t, err)
			isNumbered(t, n, e)
			n++
		}
		require.GreaterOrEqual(t, n, acknowledged)
		for waits := true; waits && more; {
			select {
			case count, ok := <-written:
				if more = ok; ok {
					acknowledged = count
				}
			default:
				waits = false
			}
		}
	}
	require.Equal(t, before+single, acknowledged)
	last, err := client.LastEvent(ctx, stream)
	require.NoError(t, err)
	isNumbered(t, before+single-1, last)
}

// TestPersistentOnACategory: the members of a group on $ce-CATEGORY get the events themselves, and answer by the links: what
// was acknowledged does not come again to the next member, what was not does, with its count of retries.
func TestPersistentOnACategory(t *testing.T) {
	srv, p, category := projected(t)
	client := srv.Client(t)
	for n := range 3 {
		written(t, p.append(category+"-"+string(rune('a'+n)), -1, "first", "second"), 0, 1)
	}
	links := "$ce-" + category
	p.upTo(links, "1@"+category+"-c", "") // 3.9.4 sends twice what comes while a group turns live
	group := newGroup(t, client, links, patient())
	cfg := persistent.Config{Stream: links, Group: group}
	g := joinGroup(t, client, cfg)
	all := takes(t, g, 0, 1, 2, 3, 4, 5)
	for _, m := range all {
		require.Equal(t, links, m.Link.Stream)
		require.Contains(t, m.Event.Stream, category+"-")
		require.Less(t, m.Event.Number, int64(2))
	}
	ctx := within(t)
	require.NoError(t, g.Ack(ctx, all[0], all[2], all[3], all[5]))
	require.NoError(t, g.Nack(ctx, persistent.Retry, "again", all[4]))
	again := takes(t, g, 4)[0]
	tried(t, srv, 1, again)
	require.NoError(t, g.Ack(ctx, again))
	require.NoError(t, g.Close())
	g = joinGroup(t, client, cfg)
	left := takes(t, g, 1)[0]
	require.Equal(t, all[1].Event.ID, left.Event.ID)
	tried(t, srv, 1, left)
	nothing(t, g)
}
