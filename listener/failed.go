package listener

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
)

// SkippedStream is the stream in which a listener of this name keeps what RetryThenSkip goes on without.
func SkippedStream(name string) string { return "skipped-" + name }

// linkTo is the type of links.
const linkTo = "$>"

// maxErrorText bounds what is kept of a handler's error.
const maxErrorText = 8 << 10

// Failure is an event that a listener has gone on without.
type Failure struct {
	Event    eventstore.ResolvedEvent // its Link is the record that keeps it; its Event is nil when that cannot be read any more
	Listener string                   // the name in its configuration
	Stream   string                   // of the record that the listener was given: of the link when there was one
	Number   int64
	Attempts int    // calls of the handler, with those of replays
	Error    string // of the last one
}

// failure is the metadata of the link to an event that was given up on.
type failure struct {
	Listener string `json:"listener"`
	Stream   string `json:"stream"`
	Number   int64  `json:"number"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
}

// Failed returns what listeners keep in a stream because they have gone on without it, the oldest first: of RetryThenPark its
// stream, of RetryThenSkip the SkippedStream. What was replayed is not there any more. A stream that does not exist has nothing.
func Failed(
	ctx context.Context, c *eventstore.Client, stream string, opts ...eventstore.ReadOption,
) iter.Seq2[Failure, error] {
	return failedFrom(ctx, c, stream, eventstore.Start, opts)
}

func failedFrom(
	ctx context.Context, c *eventstore.Client, stream string, from eventstore.From, opts []eventstore.ReadOption,
) iter.Seq2[Failure, error] {
	return func(yield func(Failure, error) bool) {
		for e, err := range c.ReadStream(ctx, stream, from, opts...) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				return
			}
			if err != nil {
				yield(Failure{}, err)
				return
			}
			if f, ok := asFailure(e); ok && !yield(f, nil) {
				return
			}
		}
	}
}

// asFailure reads an event of a stream of failures. What somebody else has put there is none.
func asFailure(e eventstore.ResolvedEvent) (Failure, bool) {
	var m failure
	if e.Link == nil || json.Unmarshal(e.Link.Metadata, &m) != nil || m.Attempts == 0 {
		return Failure{}, false
	}
	return Failure{Event: e, Listener: m.Listener, Stream: m.Stream, Number: m.Number, Attempts: m.Attempts, Error: m.Error}, true
}

// keptIn is the stream of what the policy gives up on, "" when it gives up on nothing.
func (cfg *Config) keptIn() string {
	switch cfg.OnFailure.then {
	case skip:
		return SkippedStream(cfg.Name)
	case park:
		return cfg.OnFailure.stream
	default:
		return ""
	}
}

// isKept reports one of the listener's own links, which it meets when it follows $all.
func (l *Listener) isKept(e *eventstore.ResolvedEvent) bool {
	return e.Link != nil && e.Link.Stream == l.cfg.keptIn()
}

// setAside writes the link to an event that is given up on, with what is to be known about it.
//
// It may be written twice, when the run ends before the checkpoint is saved: then it has the same id, and a server stores nothing
// twice. Once it was replayed it may fail again, as when the checkpoint is moved back, and must be stored again though the server
// knows the id. So how far the stream is truncated, which replaying changes, is part of the id.
func (l *Listener) setAside(ctx context.Context, t *trial) error {
	e, stream := t.event, l.cfg.keptIn()
	o := e.Original()
	m := failure{Listener: l.cfg.Name, Stream: o.Stream, Number: o.Number, Attempts: t.calls, Error: t.failure.Error()}
	if before, ok := asFailure(e); ok && o.Stream == stream { // of a replay
		m.Stream, m.Number, m.Attempts = before.Stream, before.Number, before.Attempts+m.Attempts
	}
	m.Error = strings.ToValidUTF8(m.Error[:min(len(m.Error), maxErrorText)], "")
	metadata, err := json.Marshal(m)
	if err != nil {
		return err
	}
	told, err := l.client.Metadata(ctx, stream, l.cfg.Call...)
	if err != nil {
		return fmt.Errorf("keep the event: %w", err)
	}
	var target []byte
	if e.Event != nil {
		target = fmt.Appendf(nil, "%d@%s", e.Event.Number, e.Event.Stream)
	} else {
		target = e.Link.Data // to the same nowhere: links are followed one step only
	}
	id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%q %q %q %d %d", stream, l.cfg.Name, o.Stream, o.Number, told.TruncateBefore))
	_, err = l.client.Append(ctx, stream, eventstore.Any, []eventstore.EventData{
		{ID: id, Type: linkTo, Data: target, Metadata: metadata},
	}, l.cfg.Call...)
	if err != nil {
		return fmt.Errorf("keep the event: %w", err)
	}
	return nil
}
