package chaos_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
)

// once is a client that is sound but for an append, which it sends once. The broken ones build on it.
type once struct {
	*eventstore.Client
	single *eventstore.Client
}

// lost makes an append until it is settled or lost.
func (c *once) lost(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts []eventstore.CallOption) (r eventstore.WriteResult, lost bool, err error) {
	for {
		r, err = c.single.Append(ctx, stream, expected, events, opts...)
		if lost = eventstore.MaybeApplied(err); lost || !errors.Is(err, eventstore.ErrRetriesExhausted) {
			return r, lost, err
		}
	}
}

// renaming is broken on purpose: it sends a lost append again with new event ids.
type renaming struct{ once }

func (c *renaming) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	for {
		r, lost, err := c.lost(ctx, stream, expected, events, opts)
		if !lost || ctx.Err() != nil {
			return r, err
		}
		events = slices.Clone(events)
		for i := range events {
			events[i].ID = uuid.New()
		}
	}
}

// hopeful is broken on purpose: it takes a lost answer for a success, and finds plausible numbers for it.
type hopeful struct{ once }

func (c *hopeful) Append(ctx context.Context, stream string, expected eventstore.ExpectedVersion, events []eventstore.EventData, opts ...eventstore.CallOption) (eventstore.WriteResult, error) {
	r, lost, err := c.lost(ctx, stream, expected, events, opts)
	if !lost {
		return r, err
	}
	count := eventstore.ExpectedVersion(len(events))
	if expected >= eventstore.NoStream {
		return eventstore.WriteResult{First: expected + 1, Last: expected + count}, nil
	}
	e, look := c.ReadEvent(ctx, stream, eventstore.End)
	switch {
	case errors.Is(look, eventstore.ErrStreamNotFound):
		return eventstore.WriteResult{First: 0, Last: count - 1}, nil
	case look != nil:
		return r, err
	}
	last := eventstore.ExpectedVersion(e.Event.Number)
	return eventstore.WriteResult{First: last - count + 1, Last: last}, nil
}

var broken = map[string]connector{
	"sends new ids after a loss": func(t *testing.T, srv *eventstoretest.Server, opts ...eventstore.Option) client {
		t.Helper()
		return &renaming{connectOnce(t, srv, opts)}
	},
	"takes a lost answer for a success": func(t *testing.T, srv *eventstoretest.Server, opts ...eventstore.Option) client {
		t.Helper()
		return &hopeful{connectOnce(t, srv, opts)}
	},
}

func connectOnce(t *testing.T, srv *eventstoretest.Server, opts []eventstore.Option) once {
	t.Helper()
	return once{srv.Client(t, opts...), srv.Client(t, append(slices.Clone(opts), eventstore.WithMaxAttempts(1))...)}
}

// The same plans that the real client passes tell that these do not work.
func TestABrokenClientIsNotLinearizable(t *testing.T) {
	const plans = 20
	for name, connect := range broken {
		t.Run(name, func(t *testing.T) {
			var caught []uint64
			for seed := uint64(1); seed <= plans; seed++ {
				h, _ := newPlan(seed).run(t, connect)
				require.Empty(t, h.problems)
				if wrong := h.check(); wrong != "" {
					require.Contains(t, wrong, "not linearizable")
					caught = append(caught, seed)
				}
			}
			t.Logf("caught by %d of %d plans: %v", len(caught), plans, caught)
			require.NotEmpty(t, caught)
		})
	}
}
