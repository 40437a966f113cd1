package chaos_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
)

// change is an operation whose connection is lost, and what it leaves behind.
type change struct {
	name    string
	command messages.Command // of its requests
	nth     int32            // which of them meets the loss; 0 is the first
	// prepare does what comes before it and returns it.
	prepare preparation
	// holds is what the server holds of it, as somebody sees it whom the loss does not meet: applied when it was done once, without
	// when it was not done.
	holds            func(ctx context.Context, t *testing.T, sound *eventstore.Client) []string
	applied, without []string
	// again is how often its requests are sent, all in all, when the loss is before, during and after it; 0 for an operation that
	// is not sent again: its outcome is unknown then.
	again [3]int32
}

type preparation func(ctx context.Context, t *testing.T, sound, c *eventstore.Client) (do func(ctx context.Context) error)

// sentAgain are the requests of an operation with so many, which are sent again when a connection is lost.
func sentAgain(writes int32) [3]int32 { return [3]int32{writes + 1, writes + 1, writes + 1} }

// lookedFor are those of a delete: it is sent again only if the stream is still there.
var lookedFor = [3]int32{2, 1, 1}

const metastream = "$$" + ambiguousStream

// plain is a change that needs nothing but the events before it.
func plain(do func(ctx context.Context, c *eventstore.Client) error) preparation {
	return func(_ context.Context, _ *testing.T, _, c *eventstore.Client) func(context.Context) error {
		return func(ctx context.Context) error { return do(ctx, c) }
	}
}

// held are the events of a stream, each as its type and its data.
func held(stream string) func(ctx context.Context, t *testing.T, sound *eventstore.Client) []string {
	return func(ctx context.Context, t *testing.T, sound *eventstore.Client) (all []string) {
		t.Helper()
		for e, err := range sound.ReadStream(ctx, stream, eventstore.Start, eventstore.As("admin", "changeit")) {
			switch {
			case errors.Is(err, eventstore.ErrStreamNotFound):
				return []string{"not found"}
			case errors.Is(err, eventstore.ErrStreamDeleted):
				return []string{"deleted"}
			}
			require.NoError(t, err)
			text := string(e.Original().Data)
			var compact bytes.Buffer
			if json.Compact(&compact, e.Original().Data) == nil {
				text = compact.String()
			}
			all = append(all, e.Original().Type+" "+text)
		}
		return all
	}
}

// heldTypes are only the types, with links followed.
func heldTypes(stream string) func(ctx context.Context, t *testing.T, sound *eventstore.Client) []string {
	return func(ctx context.Context, t *testing.T, sound *eventstore.Client) (all []string) {
		t.Helper()
		for e, err := range sound.ReadStream(ctx, stream, eventstore.Start, eventstore.As("admin", "changeit")) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				return nil
			}
			require.NoError(t, err)
			all = append(all, e.Event.Type)
		}
		return all
	}
}

// groupIsThere tells by an update of the group.
func groupIsThere(ctx context.Context, t *testing.T, sound *eventstore.Client) []string {
	t.Helper()
	err := persistent.Update(ctx, sound, ambiguousStream, "g", persistent.DefaultSettings())
	if errors.Is(err, persistent.ErrGroupNotFound) {
		return nil
	}
	require.NoError(t, err)
	return []string{"g"}
}

func changes() []change {
	const softDeleted = `$metadata {"$tb":9223372036854775807}`
	happened := func(labels ...[]string) (all []string) {
		for _, label := range slices.Concat(labels...) {
			all = append(all, "happened "+label)
		}
		return all
	}
	deleting := func(expected eventstore.ExpectedVersion, hard bool) change {
		ch := change{name: "delete", command: messages.DeleteStream, holds: held(metastream), applied: []string{softDeleted}, again: lookedFor}
		if hard {
			ch.name, ch.holds, ch.applied = "hard delete", held(ambiguousStream), []string{"deleted"}
		}
		ch.name += " with " + expected.String()
		ch.prepare = plain(func(ctx context.Context, c *eventstore.Client) error {
			do := c.Delete
			if hard {
				do = c.HardDelete
			}
			_, err := do(ctx, ambiguousStream, expected)
			return err
		})
		return ch
	}
	undeleting := func(nth int32) change {
		return change{
			name: "undelete, its first write", command: messages.WriteEvents, nth: nth, again: sentAgain(2), holds: held(ambiguousStream), applied: happened(before),
			prepare: func(ctx context.Context, t *testing.T, sound, c *eventstore.Client) func(context.Context) error {
				t.Helper()
				_, err := sound.Delete(ctx, ambiguousStream, eventstore.Any)
				require.NoError(t, err)
				return func(ctx context.Context) error { return c.Undelete(ctx, ambiguousStream) }
			},
		}
	}
	second := undeleting(2)
	second.name = "undelete, its second write"
	called := labelled(ours)[:1]
	var tx *eventstore.Transaction // somebody has started it, and it holds one event
	inTransaction := func(do func(ctx context.Context, ours *eventstore.Transaction) error) preparation {
		return func(ctx context.Context, t *testing.T, sound, c *eventstore.Client) func(context.Context) error {
			t.Helper()
			var err error
			tx, err = sound.StartTransaction(ctx, ambiguousStream, 1)
			require.NoError(t, err)
			require.NoError(t, tx.Write(ctx, labelled(theirs)))
			return func(ctx context.Context) error { return do(ctx, c.ContinueTransaction(tx.ID())) }
		}
	}
	committed := func(ctx context.Context, t *testing.T, sound *eventstore.Client) []string {
		t.Helper()
		_, err := tx.Commit(ctx)
		require.NoError(t, err, "a second time too")
		return held(ambiguousStream)(ctx, t, sound)
	}
	return []change{
		deleting(eventstore.Any, false), deleting(1, false), deleting(eventstore.Any, true), deleting(1, true),
		{
			name: "metadata with any", command: messages.WriteEvents, again: sentAgain(1), holds: held(metastream), applied: []string{`$metadata {"$maxCount":5}`},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				_, err := c.SetMetadata(ctx, ambiguousStream, eventstore.Any, eventstore.StreamMetadata{MaxCount: 5})
				return err
			}),
		},
		{
			name: "raw metadata with no stream", command: messages.WriteEvents, again: sentAgain(1), holds: held(metastream), applied: []string{`$metadata {"a":1}`},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				r, err := c.SetRawMetadata(ctx, ambiguousStream, eventstore.NoStream, []byte(`{"a":1}`))
				if err == nil && r.Last != 0 {
					err = errors.New("another number than that of our event")
				}
				return err
			}),
		},
		{
			name: "truncate", command: messages.WriteEvents, again: sentAgain(1), holds: held(metastream), applied: []string{`$metadata {"$tb":1}`},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				return c.TruncateBefore(ctx, ambiguousStream, 1)
			}),
		},
		undeleting(1), second,
		{
			name: "settings", command: messages.WriteEvents, again: sentAgain(1), holds: held("$settings"), applied: []string{`$settings {"$userStreamAcl":{"$r":"ops"}}`},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				return c.SetSystemSettings(ctx, eventstore.SystemSettings{UserStreams: &eventstore.ACL{Read: []string{"ops"}}})
			}),
		},
		{
			name: "call of an append", command: messages.WriteEvents, again: sentAgain(1), holds: held(ambiguousStream), applied: happened(before, ours[:1]),
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				_, err := c.Call(ctx, &messages.Append{Stream: ambiguousStream, Expected: 1, Events: []messages.NewEvent{
					{ID: called[0].ID, Type: called[0].Type, Data: called[0].Data},
				}})
				return err
			}),
		},
		{
			name: "start of a transaction", command: messages.TransactionStart, holds: held(ambiguousStream),
			applied: happened(before), without: happened(before), // nobody can tell
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				_, err := c.StartTransaction(ctx, ambiguousStream, eventstore.Any)
				return err
			}),
		},
		{
			name: "write to a transaction", command: messages.TransactionWrite, holds: committed,
			applied: happened(before, theirs, ours), without: happened(before, theirs),
			prepare: inTransaction(func(ctx context.Context, tx *eventstore.Transaction) error { return tx.Write(ctx, labelled(ours)) }),
		},
		{
			name: "commit of a transaction", command: messages.TransactionCommit, holds: held(ambiguousStream),
			applied: happened(before, theirs), without: happened(before),
			prepare: inTransaction(func(ctx context.Context, tx *eventstore.Transaction) error { _, err := tx.Commit(ctx); return err }),
		},
		{
			name: "scavenge", command: messages.ScavengeDatabase, holds: heldTypes("$scavenges"), applied: []string{"$scavengeStarted", "$scavengeCompleted"},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error { _, err := c.Scavenge(ctx); return err }),
		},
		{
			name: "create a group", command: messages.CreatePersistentSubscription, holds: groupIsThere, applied: []string{"g"},
			prepare: plain(func(ctx context.Context, c *eventstore.Client) error {
				return persistent.Create(ctx, c, ambiguousStream, "g", persistent.DefaultSettings())
			}),
		},
		{
			name: "delete a group", command: messages.DeletePersistentSubscription, holds: groupIsThere, without: []string{"g"},
			prepare: func(ctx context.Context, t *testing.T, sound, c *eventstore.Client) func(context.Context) error {
				t.Helper()
				require.NoError(t, persistent.Create(ctx, sound, ambiguousStream, "g", persistent.DefaultSettings()))
				return func(ctx context.Context) error { return persistent.Delete(ctx, c, ambiguousStream, "g") }
			},
		},
	}
}

// Every change but Append meets the loss of its connection before, while and after the server makes it. What can be sent again is,
// and is stored once; of all else the caller is told that nobody knows, and it is not sent again.
func TestAmbiguousChanges(t *testing.T) {
	for _, ch := range changes() {
		for i, place := range []struct {
			name            string
			request, answer eventstoretest.Fault
		}{
			{name: "before", request: eventstoretest.Cut},
			{name: "during", request: eventstoretest.CutAfter},
			{name: "after", answer: eventstoretest.Cut},
		} {
			t.Run(ch.name+"/"+place.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var want outcomeOfLoss
					if want.sent = ch.again[i]; want.sent == 0 {
						want = outcomeOfLoss{sent: 1, unknown: true, lost: i == 0}
					}
					ch.test(t, place.request, place.answer, want)
				})
			})
		}
	}
}

// outcomeOfLoss is what a change ends with.
type outcomeOfLoss struct {
	sent    int32 // requests
	unknown bool  // to the caller; else it succeeds
	lost    bool  // the server did not make it
}

func (ch *change) test(t *testing.T, request, answer eventstoretest.Fault, want outcomeOfLoss) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	srv := eventstoretest.Run(t, eventstoretest.InMemory())
	sound, err := eventstore.Connect(ctx, srv.DirectURL(), eventstore.WithDialer(srv.Dial), eventstore.WithCredentials("admin", "changeit"))
	require.NoError(t, err)
	defer func() { require.NoError(t, sound.Close()) }()
	_, err = sound.Append(ctx, ambiguousStream, eventstore.NoStream, labelled(before))
	require.NoError(t, err)
	c := srv.Client(t, eventstore.WithCredentials("admin", "changeit"))
	require.NoError(t, c.Ping(ctx))
	do := ch.prepare(ctx, t, sound, c)

	var requests, answers atomic.Int32
	remove := srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		switch {
		case f.Command == ch.command && requests.Add(1) == max(ch.nth, 1):
			return request
		case f.Command == ch.command+1 && answers.Add(1) == max(ch.nth, 1):
			return answer
		}
		return eventstoretest.Pass
	})
	err = do(ctx)
	time.Sleep(5 * time.Second) // what the server does without a caller is done
	remove()
	require.Equal(t, want.sent, requests.Load(), "requests")
	if want.unknown {
		require.ErrorIs(t, err, eventstore.ErrConnectionLost)
		require.True(t, eventstore.MaybeApplied(err), "%v", err)
	} else {
		require.NoError(t, err)
	}
	holds := ch.applied
	if want.lost {
		holds = ch.without
	}
	require.Equal(t, holds, ch.holds(ctx, t, sound))
	require.NoError(t, c.Ping(ctx))
}
