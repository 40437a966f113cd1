package eventstore

import (
	"context"
	"errors"
)

// PendingWrite is an append under way. It is for one goroutine at a time.
type PendingWrite struct {
	k      *call // nil when the outcome is known
	result WriteResult
	err    error
}

// AppendAsync is Append without waiting for the answer: it returns when the append has a place among the calls in flight, of
// which WithMaxInFlight says how many there are. ctx governs all of it: when it ends, the append fails. Appends go out in
// the order of the calls, and are decided in that order as long as no answer is lost; those that depend on each other
// expect exact versions.
//
// The events and their bytes belong to the client until Wait has returned the outcome.
func (c *Client) AppendAsync(ctx context.Context, stream string, expected ExpectedVersion, events []EventData, opts ...CallOption) *PendingWrite {
	k, err := c.newAppend(stream, expected, events, opts)
	if err != nil {
		return &PendingWrite{err: err}
	}
	if err := c.enterAppend(ctx, k); err != nil {
		k.recycle()
		return &PendingWrite{err: &OpError{Op: "append", Stream: stream, Err: err}}
	}
	k.async, k.ctx = true, ctx
	if c.hooks.calls() {
		k.begun()
	}
	k.sequence = c.sequence.Add(1)
	c.submit(k)
	return &PendingWrite{k: k}
}

// Wait returns the outcome, as Append does, when it is there; after that always the same. When ctx ends before, the error is
// of that, the append goes on, and Wait can be called again.
func (p *PendingWrite) Wait(ctx context.Context) (WriteResult, error) {
	k := p.k
	if k == nil {
		return p.result, p.err
	}
	if !k.hasSettled() {
		done := k.outcome()
		select {
		case <-done:
		case <-k.ctx.Done():
			k.expire()
			<-done
		case <-ctx.Done():
			return WriteResult{}, &OpError{Op: "wait for append", Stream: k.append.Stream, Unknown: true, Err: contextError(ctx, nil)}
		}
	}
	if k.c.hooks.calls() {
		k.ended(k.err)
	}
	if errors.Is(k.err, ErrNotAuthenticated) {
		k.c.renewed(ctx, k.auth) // for those that follow
	}
	p.result, p.err = k.appended(k.ctx, k.err) //nolint:contextcheck // the append has a context of its own
	p.k = nil
	k.recycle()
	return p.result, p.err
}
