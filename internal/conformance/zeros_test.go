package conformance_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// answers are the messages that a server sends.
var answers = map[messages.Command]proto.Message{
	messages.WriteEventsCompleted:                      &pb.WriteEventsCompleted{},
	messages.TransactionStartCompleted:                 &pb.TransactionStartCompleted{},
	messages.TransactionWriteCompleted:                 &pb.TransactionWriteCompleted{},
	messages.TransactionCommitCompleted:                &pb.TransactionCommitCompleted{},
	messages.DeleteStreamCompleted:                     &pb.DeleteStreamCompleted{},
	messages.ReadEventCompleted:                        &pb.ReadEventCompleted{},
	messages.ReadStreamEventsForwardCompleted:          &pb.ReadStreamEventsCompleted{},
	messages.ReadStreamEventsBackwardCompleted:         &pb.ReadStreamEventsCompleted{},
	messages.ReadAllEventsForwardCompleted:             &pb.ReadAllEventsCompleted{},
	messages.ReadAllEventsBackwardCompleted:            &pb.ReadAllEventsCompleted{},
	messages.SubscriptionConfirmation:                  &pb.SubscriptionConfirmation{},
	messages.StreamEventAppeared:                       &pb.StreamEventAppeared{},
	messages.PersistentSubscriptionConfirmation:        &pb.PersistentSubscriptionConfirmation{},
	messages.PersistentSubscriptionStreamEventAppeared: &pb.PersistentSubscriptionStreamEventAppeared{},
	messages.CreatePersistentSubscriptionCompleted:     &pb.CreatePersistentSubscriptionCompleted{},
	messages.DeletePersistentSubscriptionCompleted:     &pb.DeletePersistentSubscriptionCompleted{},
	messages.ScavengeDatabaseCompleted:                 &pb.ScavengeDatabaseCompleted{},
}

// leaveOutZeros clears the fields that have the value which an absent one means, and returns how many.
func leaveOutZeros(m protoreflect.Message) (cleared int) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList():
			for i := range value.List().Len() {
				if field.Message() != nil {
					cleared += leaveOutZeros(value.List().Get(i).Message())
				}
			}
		case field.Message() != nil:
			cleared += leaveOutZeros(value.Message())
		case value.Equal(field.Default()):
			m.Clear(field)
			cleared++
		}
		return true
	})
	return cleared
}

// TestZerosLeftOut: servers from 22.6 on leave out what is 0, false or empty, also where the protocol requires a field. To
// the client it is all the same.
func TestZerosLeftOut(t *testing.T) {
	ctx := within(t)
	srv := serve(t)
	var mu sync.Mutex
	met := map[messages.Command]int{} // how many fields were left out
	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		kind := answers[f.Command]
		if !f.FromServer || kind == nil {
			return eventstoretest.Pass
		}
		m := kind.ProtoReflect().New().Interface()
		if err := (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(f.Body, m); err != nil {
			t.Errorf("%s: %v", f, err)
			return eventstoretest.Pass
		}
		mu.Lock()
		met[f.Command] += leaveOutZeros(m.ProtoReflect())
		mu.Unlock()
		body, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			t.Errorf("%s: %v", f, err)
		}
		return eventstoretest.Replace(f.Command, body)
	})
	client := srv.Client(t)
	stream := newStream("zeros")

	result, err := client.Append(ctx, stream, eventstore.NoStream, []eventstore.EventData{{Type: "numbered", Data: []byte("0")}})
	require.NoError(t, err)
	require.Equal(t, []eventstore.ExpectedVersion{0, 0}, []eventstore.ExpectedVersion{result.First, result.Last})
	_, err = client.Append(ctx, stream, eventstore.NoStream, numbered(0, 1))
	require.ErrorIs(t, err, eventstore.ErrWrongVersion)
	e, err := client.ReadEvent(ctx, stream, eventstore.Start)
	require.NoError(t, err)
	isNumbered(t, 0, e)
	_, err = client.ReadEvent(ctx, stream, eventstore.At(1))
	require.ErrorIs(t, err, eventstore.ErrEventNotFound)
	for _, opts := range [][]eventstore.ReadOption{nil, {eventstore.Backward()}} {
		from := eventstore.Start
		if opts != nil {
			from = eventstore.End
		}
		n := 0
		for e, err := range client.ReadStream(ctx, stream, from, opts...) {
			require.NoError(t, err)
			isNumbered(t, 0, e)
			n++
		}
		require.Equal(t, 1, n)
		all, err := client.ReadAllSlice(ctx, from, 1, opts...)
		require.NoError(t, err)
		require.Len(t, all.Events, 1)
	}
	require.Equal(t, eventstore.NoStream, metadataVersion(t, client, stream))
	_, err = client.SetMetadata(ctx, stream, eventstore.NoStream, eventstore.StreamMetadata{MaxCount: 100})
	require.NoError(t, err)
	require.EqualValues(t, 0, metadataVersion(t, client, stream))

	sub := openSubscription(t, client, subscription.Config{Stream: stream})
	behind := openSubscription(t, client, subscription.Config{Stream: stream, From: eventstore.After(0)})
	group := newGroup(t, client, stream, patient())
	g := joinGroup(t, client, persistent.Config{Stream: stream, Group: group})
	e, err = sub.Recv(ctx)
	require.NoError(t, err)
	isNumbered(t, 0, e)
	require.NoError(t, g.Ack(ctx, takes(t, g, 0)...))
	_, err = client.Append(ctx, stream, 0, numbered(1, 1))
	require.NoError(t, err)
	for _, s := range []*subscription.Subscription{sub, behind} {
		e, err = s.Recv(ctx)
		require.NoError(t, err)
		isNumbered(t, 1, e)
	}
	require.NoError(t, g.Ack(ctx, takes(t, g, 1)...))
	require.NoError(t, persistent.Delete(ctx, client, stream, group))

	never := newStream("zeros")
	sub = openSubscription(t, client, subscription.Config{Stream: never})
	tx, err := client.StartTransaction(ctx, never, eventstore.NoStream)
	require.NoError(t, err)
	require.NoError(t, tx.Write(ctx, numbered(0, 1)))
	result, err = tx.Commit(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 0, result.Last)
	e, err = sub.Recv(ctx)
	require.NoError(t, err)
	isNumbered(t, 0, e)
	_, err = client.Scavenge(ctx)
	require.NoError(t, err)
	_, err = client.Delete(ctx, never, 0)
	require.NoError(t, err)
	_, err = client.HardDelete(ctx, never, eventstore.Any)
	require.NoError(t, err)
	_, err = sub.Recv(ctx)
	require.ErrorIs(t, err, eventstore.ErrStreamDeleted)
	mu.Lock()
	defer mu.Unlock()
	for command := range answers {
		require.Positive(t, met[command], "%s was not among the answers, or had no zeros", command)
	}
}

func metadataVersion(t *testing.T, client *eventstore.Client, stream string) eventstore.ExpectedVersion {
	t.Helper()
	m, err := client.Metadata(within(t), stream)
	require.NoError(t, err)
	return m.Version
}
