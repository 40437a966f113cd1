package main

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/goeventstore/eventstore"
)

// read is the command that prints a part of a stream, or of all.
type read struct {
	connection `embed:""`

	Stream   string `arg:"" help:"Stream to read, or $$all."`
	From     string `placeholder:"PLACE" help:"The first event: a number, in $$all a position such as C:1/P:1, start or end (the start; the end with --backward)."`
	Backward bool   `help:"Read towards the start."`
	Count    int64  `placeholder:"N" help:"Print that many events at most."`

	from eventstore.From
}

// Validate is called by kong.
func (r *read) Validate() error {
	switch {
	case r.Count < 0:
		return fmt.Errorf("--count: want a number of events, have %d", r.Count)
	case r.From == "" && r.Backward:
		r.from = eventstore.End
	case r.From == "", r.From == "start":
		r.from = eventstore.Start
	case r.From == "end":
		r.from = eventstore.End
	default:
		if err := r.from.UnmarshalText([]byte("at " + r.From)); err != nil {
			return fmt.Errorf("--from: want a number, a position such as C:1/P:1, start or end, have %q", r.From)
		}
	}
	return r.check()
}

// Run prints the events.
func (r *read) Run(ctx context.Context, std streams) error {
	return r.with(ctx, func(c *eventstore.Client) (err error) {
		p := newPrinter(std.out)
		defer func() { err = errors.Join(err, p.to.Flush()) }()
		var opts []eventstore.ReadOption
		if r.Backward {
			opts = append(opts, eventstore.Backward())
		}
		if r.Count > 0 {
			opts = append(opts, eventstore.Limit(r.Count))
		}
		for e, err := range events(ctx, c, r.Stream, r.from, opts...) {
			if err != nil {
				return err
			}
			if err := p.print(&e); err != nil {
				return err
			}
		}
		return nil
	})
}

// events reads a stream or all of them.
func events(ctx context.Context, c *eventstore.Client, stream string, from eventstore.From, opts ...eventstore.ReadOption) iter.Seq2[eventstore.ResolvedEvent, error] {
	if stream == eventstore.All {
		return c.ReadAll(ctx, from, opts...)
	}
	return c.ReadStream(ctx, stream, from, opts...)
}
