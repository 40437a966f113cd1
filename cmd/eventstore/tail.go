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

	FilterType   []string `placeholder:"PREFIX" help:"Only events whose types begin so. May be given several times."`
	FilterStream []string `placeholder:"PREFIX" help:"Only events of streams whose names begin so, which is for $$all. May be given several times."`
}

// Validate is called by kong.
func (l *tail) Validate() error {
	if l.Count < 1 {
		return fmt.Errorf("--count: want a number of events, have %d", l.Count)
	}
	switch {
	case len(l.FilterType) > 0 && len(l.FilterStream) > 0:
		return errors.New("--filter-type and --filter-stream: want one of them")
	case len(l.FilterStream) > 0 && l.Stream != eventstore.All:
		return fmt.Errorf("--filter-stream: want the stream %s, have %s", eventstore.All, l.Stream)
	}
	return l.check()
}

// filter is nil when every event is wanted.
func (l *tail) filter() *eventstore.Filter {
	var f eventstore.Filter
	switch {
	case len(l.FilterType) > 0:
		f = eventstore.EventTypePrefix(l.FilterType...)
	case len(l.FilterStream) > 0:
		f = eventstore.StreamPrefix(l.FilterStream...)
	default:
		return nil
	}
	return &f
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
	last, err := l.last(ctx, c)
	if err != nil {
		return err
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
	s, err := subscription.Open(ctx, c, subscription.Config{Stream: l.Stream, From: from, Filter: l.filter(), Borrowed: true})
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

// last reads the last events that are wanted, the newest first.
func (l *tail) last(ctx context.Context, c *eventstore.Client) (last []eventstore.ResolvedEvent, err error) {
	opts := []eventstore.ReadOption{eventstore.Backward()}
	filter := l.filter()
	switch {
	case filter != nil && l.Stream == eventstore.All:
		opts = append(opts, *filter, eventstore.Limit(l.Count))
	case filter == nil:
		opts = append(opts, eventstore.Limit(l.Count))
	}
	for e, err := range events(ctx, c, l.Stream, eventstore.End, opts...) {
		if l.Follow && errors.Is(err, eventstore.ErrStreamNotFound) {
			break // it may come
		}
		if err != nil {
			return nil, err
		}
		if filter != nil && l.Stream != eventstore.All && !filter.Match(shown(&e)) {
			continue
		}
		if last = append(last, e); int64(len(last)) == l.Count {
			break
		}
	}
	return last, nil
}
