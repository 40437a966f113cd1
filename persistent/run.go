package persistent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// NackError is what a handler of Run returns to say what becomes of its message. Without one a message is tried again.
type NackError struct {
	Action Action        // default: Retry
	Reason string        // stored with a parked message
	Delay  time.Duration // of a Retry, as in RetryAfter; at most Config.MessageTimeout
}

// Error names the action and the reason.
func (e *NackError) Error() string { return e.action().String() + ": " + e.Reason }

func (e *NackError) action() Action {
	if e.Action < Park || e.Action > Stop {
		return Retry
	}
	return e.Action
}

// PanicError is the failure of a handler of Run that panicked, in the notice Failed.
type PanicError struct {
	Value any
	Stack []byte
}

// Error shows the value alone.
func (e *PanicError) Error() string { return fmt.Sprintf("the handler panicked: %v", e.Value) }

// errGoexit is the failure of a handler that ended its goroutine, as a failed assertion of a test does.
var errGoexit = errors.New("the handler ended its goroutine")

// Run has workers handle the messages, each one at a time, until ctx ends or Close is called, for which it returns nil, or the
// membership ends. A message whose handler returns nil is acknowledged; one whose handler returns a NackError is given back as
// that says; for any other error, and for a panic, it is tried again, after Config.RetryDelay. Several workers handle messages in
// no order. When ctx ends, which is the handlers' too, Run waits for them and sends the acks that are queued.
func (g *Group) Run(ctx context.Context, workers int, h func(ctx context.Context, m *Message) error) error {
	if workers < 1 || h == nil {
		return g.wrap("run", argument("%d workers, and a handler that is nil: %t; want at least 1 and a handler", workers, h == nil))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failure error
	var once sync.Once
	var crew, watch sync.WaitGroup
	for range workers {
		crew.Go(func() {
			err := errGoexit
			defer func() {
				if err != nil {
					once.Do(func() { failure = err })
					cancel()
				}
			}()
			err = g.work(ctx, h)
		})
	}
	if g.cfg.OnNotice != nil {
		watch.Go(func() { g.watch(ctx) }) // workers that all hang would not see that the window is full
	}
	crew.Wait()
	cancel()
	watch.Wait()
	g.mu.Lock()
	defer g.unlock()
	_ = g.flush() //nolint:contextcheck // see send; an error is the connection's: the messages come again
	if g.closing {
		return nil
	}
	return failure
}

func (g *Group) watch(ctx context.Context) {
	ticker := time.NewTicker(max(g.cfg.StallAfter/4, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			g.tellStall()
		case <-ctx.Done():
			return
		}
	}
}

func (g *Group) work(ctx context.Context, h func(ctx context.Context, m *Message) error) error {
	for {
		m, err := g.Recv(ctx)
		switch {
		case err == nil:
			g.handle(ctx, h, m)
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			return nil
		default:
			return err
		}
	}
}

func (g *Group) handle(ctx context.Context, h func(ctx context.Context, m *Message) error, m *Message) {
	err := errGoexit
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		g.settle(ctx, m, err)
	}()
	err = h(ctx, m)
}

// settle answers a message that was handled. That it is not this member's any more is nobody's fault: it comes again.
func (g *Group) settle(ctx context.Context, m *Message, err error) {
	if err == nil {
		_ = g.Ack(ctx, m)
		return
	}
	var nack *NackError
	switch {
	case !errors.As(err, &nack):
		_ = g.RetryAfter(ctx, g.cfg.RetryDelay, err.Error(), m)
		g.tell(Notice{Kind: Failed, Err: err, Message: m})
	case nack.action() == Retry && nack.Delay > 0:
		_ = g.RetryAfter(ctx, min(nack.Delay, g.cfg.MessageTimeout-1), nack.Reason, m)
	default:
		_ = g.Nack(ctx, nack.action(), nack.Reason, m)
	}
}
