package followers

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/faultnet"
)

// Life is one life of a process: from its start until it is stopped or killed. Killed it is dead at once: nothing that it still
// does reaches the server, a store or the tape, while its goroutines are given the time to end.
type Life struct {
	*Run
	Client  *eventstore.Client
	Context context.Context //nolint:containedctx // the life's own: its end stops the process
	process *process
	name    string
	line    *faultnet.Network
	calm    bool // nothing fails by itself any more
	end     context.CancelFunc
	gone    chan struct{} // closed by leave: the next life may begin
	leave   func()

	standing  stillness // of the process
	lineStill stillness // of its lines

	mu     sync.Mutex // guards what follows
	rnd    *rand.Rand
	leg    *Leg          // of a listener
	leased time.Duration // when it has got a lease, by the tape
	still  bool          // it has stood still at some time
	dead   bool
	conns  []*faultnet.Conn
}

var (
	errDead   = errors.New("the process is dead")
	errBadDay = errors.New("a bad day")
)

// Name is whose place the process moves: its own, or what all share.
func (l *Life) Name() string {
	if l.rules.Shared {
		return sharedName
	}
	return l.process.name
}

const sharedName = "all"

// Draw returns a number from 0 to n-1.
func (l *Life) Draw(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rnd.IntN(n)
}

// Calm reports whether this is the last life, in which nothing fails by itself.
func (l *Life) Calm() bool { return l.calm }

// Begin tells that a leg begins.
func (l *Life) Begin(name string, place eventstore.From) *Leg {
	l.tape.mu.Lock()
	l.tape.legs++
	leg := &Leg{life: l, name: name, number: l.tape.legs}
	l.tape.mu.Unlock()
	l.mu.Lock()
	leg.leased = l.leased
	l.mu.Unlock()
	leg.tell(entry{verb: begins, place: place})
	return leg
}

// listen is Begin for a listener, whose handler and store tell of that leg from here on.
func (l *Life) listen(place eventstore.From) {
	leg := l.Begin(l.Name(), place)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leg = leg
}

// Leg is the listener's leg; nil before it has loaded its checkpoint.
func (l *Life) Leg() *Leg {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leg
}

func (l *Life) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// die kills the process.
func (l *Life) die(why string) {
	l.tape.add(entry{verb: happened, text: l.name + " is killed " + why})
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.cut()
	l.end()
	l.leave()
}

// own notes when it has got a lease, or later.
func (l *Life) own() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leased = max(time.Since(l.tape.begun), 1)
}

// pause has the process stand still, wherever it comes by: with its network, its stores and its handlers.
func (l *Life) pause(d time.Duration) {
	l.mu.Lock()
	l.still = true
	l.mu.Unlock()
	l.standing.pause(d)
}

// cut breaks all connections.
func (l *Life) cut() {
	l.mu.Lock()
	conns := l.conns
	l.conns = nil
	l.mu.Unlock()
	for _, c := range conns {
		c.Reset()
	}
}

// stillness is something that stands still for a while.
type stillness struct {
	mu    sync.Mutex // guards what follows
	until time.Time
}

func (s *stillness) pause(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now().Add(d)
}

// pass waits while it does.
func (s *stillness) pass() {
	for {
		s.mu.Lock()
		d := time.Until(s.until)
		s.mu.Unlock()
		if d <= 0 {
			return
		}
		time.Sleep(d)
	}
}

// pass waits while the process stands still.
func (l *Life) pass() { l.standing.pass() }

func (l *Life) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := l.line.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	conn := c.(*faultnet.Conn)
	l.mu.Lock()
	dead := l.dead
	l.conns = append(l.conns, conn)
	l.mu.Unlock()
	if dead {
		_ = conn.Close()
		return nil, errDead
	}
	return &stillConn{conn, l}, nil
}

// stillConn stands still with its process.
type stillConn struct {
	*faultnet.Conn
	life *Life
}

func (c *stillConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.life.lineStill.pass()
	c.life.pass()
	return n, err
}

func (c *stillConn) Write(b []byte) (int, error) {
	c.life.pass()
	c.life.lineStill.pass()
	return c.Conn.Write(b)
}

// Work is what a process does with events: it gets through, takes its time, stalls, fails, panics, or dies in the middle. effect is
// what it does to the world, when it gets so far.
func (l *Life) Work(ctx context.Context, leg *Leg, events []eventstore.ResolvedEvent, effect func() error) error {
	var seen []sight
	for _, e := range events {
		seen = append(seen, see(e))
	}
	l.pass()
	leg.tell(entry{verb: handed, events: seen})
	if effect != nil {
		if err := effect(); err != nil {
			leg.tell(entry{verb: failed, events: seen, text: err.Error()})
			return err
		}
	}
	err := l.fare(ctx)
	switch {
	case l.isDead():
		return errDead
	case errors.Is(err, errPanic):
		leg.tell(entry{verb: failed, events: seen, text: err.Error()})
		panic(err)
	case err != nil:
		leg.tell(entry{verb: failed, events: seen, text: err.Error()})
		return err
	}
	for i, e := range events {
		seen[i] = see(e) // again: nobody else has used its memory meanwhile
	}
	leg.tell(entry{verb: finished, events: seen, place: seen[len(seen)-1].behind})
	return nil
}

var errPanic = errors.New("a panic")

// fare is how it goes.
func (l *Life) fare(ctx context.Context) error {
	if l.calm {
		return nil
	}
	if l.rules.Replayed && l.Draw(3) == 0 { // often twice for the same event
		return errBadDay
	}
	switch n := l.Draw(1000); {
	case n < 4:
		l.die("while it handles an event")
	case n < 10:
		l.pause(l.long())
	case n < 50:
		return errBadDay
	case n < 60:
		return errPanic
	case n < 75:
		l.sleep(ctx, 8*time.Second)
	case n < 200:
		l.sleep(ctx, 300*time.Millisecond)
	}
	l.pass()
	if l.Draw(2) == 0 {
		return ctx.Err()
	}
	return nil
}

// long is how long a process stands still.
func (l *Life) long() time.Duration { return time.Duration(l.Draw(8000)) * time.Millisecond / l.hurry }

// sleep is short for those who care for their context, which are not all.
func (l *Life) sleep(ctx context.Context, longest time.Duration) {
	d := time.Duration(l.Draw(int(longest/l.hurry/time.Millisecond))) * time.Millisecond
	if l.Draw(2) == 0 {
		time.Sleep(d)
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
