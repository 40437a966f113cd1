package eventstore

import (
	"context"
	"math"

	"github.com/goeventstore/eventstore/messages"
)

// A sequence that goes on to its second page asks for each further one before it hands out the events of the last, so
// that the server and the network work while the caller does. Who stops within a page has asked for one in vain, which
// is why the second is not asked for in advance.
//
// A page asked for ahead is a call that nobody waits for, as AppendAsync makes: it gives its place in flight back when it is
// settled, and so holds none while the caller handles events. If it fails, the page is asked for again when its turn comes,
// as if it had not been before.

// askAhead asks for the page from a number on, if there is a place in flight for that at once. After a page that was too
// large it does not: how large the next may be depends on how long that takes. Neither with hooks, which are told how
// long a call takes.
func (c *Client) askAhead(ctx context.Context, stream string, from int64, count int32, o *readOptions, memory *pageMemory) {
	if o.within || memory.most > 0 || c.hooks.calls() || ctx.Err() != nil || c.draining.Load() || !c.limit.acquireNow(1) {
		return
	}
	k := c.begin(memory.request(stream, from, count, o), o.credentials)
	k.count, memory.asked = &memory.read.Count, memory.read.Count
	k.room, memory.spare = memory.spare[:0], nil
	k.async, k.ctx = true, ctx
	k.sequence = c.sequence.Add(1)
	c.submit(k)
	memory.ahead = k
}

// request makes the request for a page in place: the one before it is settled or abandoned. The page that was asked for
// ahead is the next one, and has its request.
func (m *pageMemory) request(stream string, from int64, count int32, o *readOptions) messages.Request {
	if m.ahead != nil {
		return &m.read
	}
	if !o.backward {
		// No stream gets there, and a server computes from + count in 64 bits.
		from = min(from, math.MaxInt64-1)
		count = int32(min(int64(count), math.MaxInt64-from))
	}
	m.read = messages.StreamRead{
		Stream: stream, From: from, Count: count, ResolveLinks: !o.rawLinks, RequireLeader: !o.anyNode, Backward: o.backward,
	}
	return &m.read
}

// takeAhead waits for the page that was asked for ahead. The call is the caller's then; it is nil when there is no such page,
// or it failed. asked is how many events it was asked for with at first.
func (m *pageMemory) takeAhead(ctx context.Context) (k *call, asked int32) {
	if ctx.Err() != nil { // then no further page, whether it is there or not
		m.dropAhead()
	}
	k = m.ahead
	if k == nil {
		return nil, 0
	}
	m.ahead = nil
	done := k.outcome()
	select {
	case <-done:
	case <-ctx.Done():
		k.expire()
		<-done
	}
	if k.err != nil {
		k.recycle()
		return nil, m.asked
	}
	m.spare = m.body // the page before it, whose events are not needed any more
	return k, m.asked
}

// dropAhead forgets a page that is not needed any more.
func (m *pageMemory) dropAhead() {
	if m.ahead != nil {
		_ = m.ahead.withdraw() // nobody is told
		m.ahead.finish(context.Canceled)
		m.ahead = nil
	}
}
