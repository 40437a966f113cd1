package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// tail is the command that prints the end of a stream, or of all, and what comes behind it.
type tail struct {
	connection `embed:""`

	Stream string `arg:"" help:"Stream to print, or $$all."`
	Count  int64  `short:"n" default:"10" placeholder:"N" help:"Print the last N events (${default})."`
	Follow bool   `short:"f" help:"Go on with those that are written, until an interrupt or SIGTERM."`
}

// Validate is called by kong.
func (l *tail) Validate() error {
	if l.Count < 1 {
		return fmt.Errorf("--count: want a number of events, have %d", l.Count)
	}
	return l.check()
}

// Run prints the events. To follow is ended by an interrupt and by nothing else that is good.
func (l *tail) Run(ctx context.Context, std streams) error {
	err := l.with(ctx, func(c *eventstore.Client) error { return l.print(ctx, c, newPrinter(std.out)) })
	if l.Follow && ctx.Err() != nil {
		return nil //nolint:nilerr // it was interrupted
	}
	return err
}

func (l *tail) print(ctx context.Context, c *eventstore.Client, p *printer) error {
	var last []eventstore.ResolvedEvent
	for e, err := range events(ctx, c, l.Stream, eventstore.End, eventstore.Backward(), eventstore.Limit(l.Count)) {
		if l.Follow && errors.Is(err, eventstore.ErrStreamNotFound) {
			break // it may come
		}
		if err != nil {
			return err
		}
		last = append(last, e)
	}
	from := eventstore.Start
	for _, e := range slices.Backward(last) {
		if err := p.print(&e); err != nil {
			return err
		}
		from = e.Checkpoint()
	}
	if err := p.to.Flush(); err != nil || !l.Follow {
		return err
	}
	s, err := subscription.Open(ctx, c, subscription.Config{Stream: l.Stream, From: from})
	if err != nil {
		return err
	}
	for e, err := range s.Events(ctx) {
		if err == nil {
			err = errors.Join(p.print(&e), p.to.Flush())
		}
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
	return s.Close()
}
