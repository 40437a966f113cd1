package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
)

// StreamStore keeps each checkpoint in a stream of its own, called prefix and the checkpoint's name, whose last event is the
// checkpoint and whose metadata keep it short. It is a Leaser: of the instances of one name, in as many processes, one works.
//
// Every save is an append with the exact version that its writer knows, so that of two at once one is refused and looks again.
// The version is the fencing token: it only grows, also over deletes of the stream. No clock is compared with another's: who
// waits for a lease measures by its own clock that the stream has not changed for as long as the owner has promised.
//
// The streams are in $all like others: a listener of $all would hear of its own checkpoints for ever, if its filter did not
// leave the prefix out. The prefix must not be empty.
func StreamStore(c *eventstore.Client, prefix string) Store {
	return &streamStore{client: c, prefix: prefix}
}

const (
	recordType = "checkpoint"
	// recordsKept of a checkpoint's stream can be read: the last one counts, the others tell people what went on.
	recordsKept = 10
)

type streamStore struct {
	client *eventstore.Client
	prefix string
}

var _ Leaser = (*streamStore)(nil)

// record is the data of an event of a checkpoint's stream.
type record struct {
	At    *eventstore.From `json:"at,omitempty"`    // nil: there is none
	Lease uuid.UUID        `json:"lease,omitzero"`  // zero: nobody has it
	Owner string           `json:"owner,omitempty"` // of the lease
	TTL   int64            `json:"ttlMilliseconds,omitempty"`
}

// seenRecord is the last record with the number that says so.
type seenRecord struct {
	record
	version eventstore.ExpectedVersion
}

func (s *streamStore) stream(name string) (string, error) {
	switch {
	case s.client == nil:
		return "", fmt.Errorf("stream store: %w: no client", eventstore.ErrArgument)
	case s.prefix == "":
		return "", fmt.Errorf("stream store: %w: the prefix is empty: a checkpoint could be in the stream that is followed", eventstore.ErrArgument)
	case strings.HasPrefix(s.prefix, "$$"):
		return "", fmt.Errorf("stream store: %w: streams that begin with $$ are metadata", eventstore.ErrArgument)
	}
	return s.prefix + name, nil
}

// look reads the last record.
func (s *streamStore) look(ctx context.Context, stream string) (seenRecord, error) {
	e, err := s.client.ReadEvent(ctx, stream, eventstore.End, eventstore.RawLinks())
	if errors.Is(err, eventstore.ErrStreamNotFound) || errors.Is(err, eventstore.ErrEventNotFound) {
		return seenRecord{version: eventstore.NoStream}, nil
	}
	if err != nil {
		return seenRecord{}, err
	}
	r := seenRecord{version: eventstore.ExpectedVersion(e.Event.Number)}
	if e.Event.Type != recordType {
		return r, fmt.Errorf("event %d@%s of type %q is no checkpoint; delete the stream to begin anew", e.Event.Number, stream, e.Event.Type)
	}
	if err := json.Unmarshal(e.Event.Data, &r.record); err != nil {
		return r, fmt.Errorf("event %d@%s is no checkpoint; delete the stream to begin anew: %w", e.Event.Number, stream, err)
	}
	return r, nil
}

// write appends a record behind the one that was seen, which it replaces. A wrong version says that another is there by now.
func (s *streamStore) write(ctx context.Context, stream string, seen *seenRecord, next record) error {
	if seen.version == eventstore.NoStream {
		// Metadata that are there already are somebody's choice, or of a stream that was deleted.
		_, err := s.client.SetMetadata(ctx, stream, eventstore.NoStream, eventstore.StreamMetadata{MaxCount: recordsKept})
		if err != nil && !errors.Is(err, eventstore.ErrWrongVersion) {
			return err
		}
	}
	written, err := s.client.Append(ctx, stream, seen.version, []eventstore.EventData{eventstore.JSONEvent(recordType, next)})
	if err != nil {
		return err
	}
	*seen = seenRecord{next, written.Last}
	return nil
}

// change replaces the last record by what to makes of it, until that is what it was made of.
func (s *streamStore) change(ctx context.Context, stream string, seen *seenRecord, to func(record) (record, error)) error {
	for {
		next, err := to(seen.record)
		if err != nil {
			return err
		}
		if err = s.write(ctx, stream, seen, next); !errors.Is(err, eventstore.ErrWrongVersion) {
			return err
		}
		if *seen, err = s.look(ctx, stream); err != nil {
			return err
		}
	}
}

func (s *streamStore) Load(ctx context.Context, name string) (eventstore.From, error) {
	stream, err := s.stream(name)
	if err != nil {
		return eventstore.From{}, err
	}
	seen, err := s.look(ctx, stream)
	if err != nil {
		return eventstore.From{}, err
	}
	return seen.place(stream)
}

func (r *record) place(stream string) (eventstore.From, error) {
	if r.At == nil {
		return eventstore.From{}, fmt.Errorf("%w in stream %q", ErrNoCheckpoint, stream)
	}
	return *r.At, nil
}

// Save is of somebody without a lease, who moves the checkpoint of whoever has it.
func (s *streamStore) Save(ctx context.Context, name string, at eventstore.From) error {
	stream, err := s.stream(name)
	if err != nil {
		return err
	}
	seen, err := s.look(ctx, stream)
	if err != nil {
		return err
	}
	return s.change(ctx, stream, &seen, func(r record) (record, error) {
		r.At = &at
		return r, nil
	})
}

func (s *streamStore) Acquire(ctx context.Context, name, owner string, ttl time.Duration) (Lease, error) {
	stream, err := s.stream(name)
	if err != nil {
		return nil, err
	}
	mine := record{Lease: uuid.New(), Owner: owner, TTL: max(ttl.Milliseconds(), 1)}
	var since time.Time // the last change was before it
	for last := eventstore.Any; ; {
		seen, err := s.look(ctx, stream)
		if err != nil {
			return nil, err
		}
		if seen.version != last {
			last, since = seen.version, time.Now()
		}
		left := time.Duration(seen.TTL)*time.Millisecond - time.Since(since)
		if seen.Lease == uuid.Nil || left <= 0 {
			mine.At = seen.At
			err := s.write(ctx, stream, &seen, mine)
			if err == nil {
				return newStreamLease(s, name, stream, seen), nil
			}
			if !errors.Is(err, eventstore.ErrWrongVersion) {
				return nil, err
			}
			continue // somebody was quicker
		}
		if err := pause.For(ctx, min(left, max(ttl/10, time.Millisecond))); err != nil {
			return nil, err
		}
	}
}

// streamLease is the store of an owner. It knows its stream's version as long as nobody else writes.
type streamLease struct {
	store        *streamStore
	name, stream string
	mine         record // as it was acquired

	turn chan struct{} // holds a token when nobody uses what follows: writes go one after the other
	seen seenRecord
}

func newStreamLease(s *streamStore, name, stream string, acquired seenRecord) *streamLease {
	l := &streamLease{store: s, name: name, stream: stream, mine: acquired.record, turn: make(chan struct{}, 1), seen: acquired}
	l.turn <- struct{}{}
	return l
}

// change replaces the last record, if that is of this lease.
func (l *streamLease) change(ctx context.Context, to func(record) record) error {
	select {
	case <-l.turn:
		defer func() { l.turn <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return l.store.change(ctx, l.stream, &l.seen, func(r record) (record, error) {
		if r.Lease != l.mine.Lease {
			return r, fmt.Errorf("%w: %s", ErrFenced, r.holder())
		}
		return to(r), nil
	})
}

func (r *record) holder() string {
	if r.Lease == uuid.Nil {
		return "nobody has it"
	}
	return fmt.Sprintf("%q has it", r.Owner)
}

func (l *streamLease) check(name string) error {
	if name != l.name {
		return fmt.Errorf("stream store: %w: the lease is of %q, not of %q", eventstore.ErrArgument, l.name, name)
	}
	return nil
}

func (l *streamLease) Load(ctx context.Context, name string) (eventstore.From, error) {
	if err := l.check(name); err != nil {
		return eventstore.From{}, err
	}
	return l.store.Load(ctx, name)
}

func (l *streamLease) Save(ctx context.Context, name string, at eventstore.From) error {
	if err := l.check(name); err != nil {
		return err
	}
	return l.change(ctx, func(r record) record {
		r.At = &at
		return r
	})
}

func (l *streamLease) Renew(ctx context.Context) error {
	return l.change(ctx, func(r record) record { return r })
}

// Release leaves the checkpoint alone.
func (l *streamLease) Release(ctx context.Context) error {
	return l.change(ctx, func(r record) record { return record{At: r.At} })
}
