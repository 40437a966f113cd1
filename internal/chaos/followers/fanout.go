package followers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/subscription"
)

// fanningOut has consumers come and go at a fan-out that is stopped and run again. Each attachment has a place of its own: it gets
// all that comes while it is there, or is told what it has missed, or that it was too slow.
func fanningOut(*Run) Follower {
	return Follower{Rules: Rules{Loose: true}, Follow: func(l *Life) error {
		var leg *Leg // of the subscription
		f, err := listener.NewFanout(l.Client, listener.FanoutConfig{
			Stream: l.source.Stream, Filter: l.source.Filter,
			OnNotice: put(l.kind.between.notices, func(n subscription.Notice) { leg.Notice(n) }),
		})
		if err != nil {
			return err
		}
		var consumers sync.WaitGroup
		defer consumers.Wait()
		for i, policy := range []listener.Overflow{listener.Wait, listener.Wait, listener.DropOldest, listener.Detach} {
			consumers.Go(func() {
				for n := 0; l.Context.Err() == nil; n++ {
					name := fmt.Sprintf("consumer %d.%d of %s", i, n, l.name)
					if err := consume(l, f, name, policy); unlessOver(l.Context, err) != nil {
						l.problem("%s: %v", name, err)
						return
					}
				}
			})
		}
		for n := 0; l.Context.Err() == nil; n++ {
			leg = l.Begin(fmt.Sprintf("fan-out %d of %s", n, l.name), eventstore.End)
			ctx, cancel := context.WithCancel(l.Context)
			if !l.calm {
				ctx, cancel = context.WithTimeout(l.Context, time.Second+time.Duration(l.Draw(10_000))*time.Millisecond)
			}
			err := f.Run(ctx)
			cancel()
			if err != nil {
				return unlessOver(l.Context, err)
			}
		}
		return nil
	}}
}

// consume attaches once.
func consume(l *Life, f *listener.Fanout, name string, policy listener.Overflow) error {
	opts := listener.AttachOptions{OnOverflow: policy}
	if !l.calm {
		opts.Buffer = 1 + l.Draw(10)
		if l.Draw(4) == 0 {
			opts.Stream = alone
		}
	} else if policy == listener.Wait {
		l.Completes(name)
	}
	c := f.Attach(opts)
	defer func() { _ = c.Close() }() // which returns nil
	ctx, cancel := context.WithCancel(l.Context)
	defer cancel()
	if !l.calm && l.Draw(2) == 0 {
		ctx, cancel = context.WithTimeout(l.Context, time.Duration(l.Draw(10_000))*time.Millisecond)
		defer cancel()
	}
	err := c.Ready(ctx)
	if err == nil {
		leg := l.Begin(name, c.Checkpoint())
		leg.only = opts.Stream
		err = l.take(ctx, leg, put[receiver](l.kind.between.subscription, c))
	}
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, listener.ErrStopped):
		return nil
	case errors.Is(err, listener.ErrSlow) && policy == listener.Detach && !l.calm:
		return nil
	}
	return err
}

// take receives until the consumer ends, or has had enough.
func (l *Life) take(ctx context.Context, leg *Leg, c receiver) error {
	for {
		e, err := c.Recv(ctx)
		gap := new(listener.GapError)
		switch {
		case errors.As(err, &gap):
			leg.Missed(gap.Dropped, gap.From, gap.Until)
			continue
		case err != nil:
			return err
		}
		if !l.gets(leg, e) {
			return nil
		}
	}
}
