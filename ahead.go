package eventstore

import (
	"context"
	"math"
	"runtime"
	"slices"

	"github.com/goeventstore/eventstore/messages"
)

// A sequence that goes on to its second page asks for each further one before it hands out the events of the last, so
// that the server and the network work while the caller does. Who stops within a page has asked for one in vain, which
// is why the second is not asked for in advance.
//
// One that goes on for long keeps two pages under way when it reads forward, or three small ones, so that the server need not
// wait for the client to take a page before it makes the next. Where all but the first of them begin is a guess, behind as
// many events as the one before was asked for; it is made only where the stream has events, and not any more once it was wrong.
//
// A page asked for ahead is a call that nobody waits for, as AppendAsync makes: it gives its place in flight back when it is
// settled, and so holds none while the caller handles events. If it fails, the page is asked for again when its turn comes,
// as if it had not been before.

// pageAhead is a page that was asked for before its turn.
type pageAhead struct {
	call  *call
	read  messages.StreamRead // its Count may have been halved; it is the call's until that is settled
	asked int32               // with how many events it was asked for at first
}

const (
	long      = 4         // how many pages a sequence has had when it begins to guess
	smallPage = 256 << 10 // of more bytes, more pages under way push each other out of the processor's caches
)

// askAhead asks for what follows a page, of whose events left are wanted if there is a Limit, if there is a place in flight
// for that at once. After a page that was too large it does not: how large the next may be depends on how long that takes.
// Neither with hooks, which are told how long a call takes.
func (c *Client) askAhead(ctx context.Context, page *Slice, left int64, o *readOptions, memory *pageMemory) {
	if ahead := memory.ahead; len(ahead) > 0 && ahead[0].read.From != page.Next { // behind a gap, or fewer events than were asked for
		memory.misled = true
		memory.dropAhead()
	}
	if o.within || memory.most > 0 || c.hooks.calls() || ctx.Err() != nil || c.draining.Load() {
		return
	}
	from, most := page.Next, 1
	if !o.backward && memory.pages > long && !memory.misled {
		if most = 2; len(memory.page.reply.Body) <= smallPage {
			most = 3
		}
	}
	for _, p := range memory.ahead {
		from, left = p.read.From+int64(p.asked), left-int64(p.asked)
	}
	before := len(memory.ahead)
	for len(memory.ahead) < most && (len(memory.ahead) == 0 || from <= page.Last) && (o.limit == 0 || left > 0) && c.limit.acquireNow(1) {
		p := memory.newAhead()
		p.read = streamRead(page.Stream, from, o.count(left), o)
		p.asked = p.read.Count
		k := c.begin(&p.read, o.credentials)
		k.count, k.room = &p.read.Count, memory.room()
		k.async, k.ctx = true, ctx
		k.sequence = c.sequence.Add(1)
		p.call = k
		c.submit(k)
		from, left = p.read.From+int64(p.asked), left-int64(p.asked)
	}
	if len(memory.ahead) > before {
		runtime.Gosched() // or the write loop waits for this processor, while the caller has a page of events to handle
	}
}

// streamRead is the request for a page.
func streamRead(stream string, from int64, count int32, o *readOptions) messages.StreamRead {
	if !o.backward {
		// No stream gets there, and a server computes from + count in 64 bits.
		from = min(from, math.MaxInt64-1)
		count = int32(min(int64(count), math.MaxInt64-from))
	}
	return messages.StreamRead{
		Stream: stream, From: from, Count: count, ResolveLinks: !o.rawLinks, RequireLeader: !o.anyNode, Backward: o.backward,
	}
}

// newAhead adds a page to those that were asked for.
func (m *pageMemory) newAhead() *pageAhead {
	var p *pageAhead
	if n := len(m.unused); n > 0 {
		p, m.unused = m.unused[n-1], m.unused[:n-1]
	} else {
		p = new(pageAhead)
	}
	m.ahead = append(m.ahead, p)
	return p
}

// takeAhead waits for the next page if it was asked for ahead. The call is the caller's then; it is nil when there is no
// such page, or it failed. asked is how many events it was asked for with at first, got what became of them.
func (m *pageMemory) takeAhead(ctx context.Context) (k *call, asked, got int32) {
	if len(m.ahead) == 0 {
		return nil, 0, 0
	}
	p := m.ahead[0]
	if ctx.Err() != nil { // then no further page, whether it is there or not
		m.dropAhead()
		return nil, 0, 0
	}
	k = p.call
	done := k.outcome()
	select {
	case <-done:
	case <-ctx.Done():
		k.expire()
		<-done
	}
	asked, got = p.asked, p.read.Count
	m.ahead = slices.Delete(m.ahead, 0, 1)
	if k.err != nil {
		k.recycle()
		m.dropAhead()
		if got < asked {
			m.most = got
		}
		return nil, 0, 0
	}
	m.unused = append(m.unused, p)
	return k, asked, got
}

// dropAhead forgets the pages that are not needed any more. Their memory is not used again: their calls may be about to look
// at it.
func (m *pageMemory) dropAhead() {
	for _, p := range m.ahead {
		_ = p.call.withdraw() // nobody is told
		p.call.finish(context.Canceled)
	}
	clear(m.ahead)
	m.ahead = m.ahead[:0]
}
