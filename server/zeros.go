package server

import (
	"encoding/binary"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// answerKinds are the messages in which a dialect may leave zeros out.
var answerKinds = map[messages.Command]proto.Message{
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
	messages.FilteredReadAllEventsForwardCompleted:     &pb.FilteredReadAllEventsCompleted{},
	messages.FilteredReadAllEventsBackwardCompleted:    &pb.FilteredReadAllEventsCompleted{},
	messages.SubscriptionConfirmation:                  &pb.SubscriptionConfirmation{},
	messages.StreamEventAppeared:                       &pb.StreamEventAppeared{},
	messages.SubscriptionDropped:                       &pb.SubscriptionDropped{},
	messages.CheckpointReached:                         &pb.CheckpointReached{},
	messages.PersistentSubscriptionConfirmation:        &pb.PersistentSubscriptionConfirmation{},
	messages.PersistentSubscriptionStreamEventAppeared: &pb.PersistentSubscriptionStreamEventAppeared{},
	messages.CreatePersistentSubscriptionCompleted:     &pb.CreatePersistentSubscriptionCompleted{},
	messages.UpdatePersistentSubscriptionCompleted:     &pb.UpdatePersistentSubscriptionCompleted{},
	messages.DeletePersistentSubscriptionCompleted:     &pb.DeletePersistentSubscriptionCompleted{},
	messages.ScavengeDatabaseCompleted:                 &pb.ScavengeDatabaseCompleted{}, // fits the other kind of answer too
	messages.NotHandled:                                &pb.NotHandled{},
}

// withoutZeros returns whole frames with what is zero left out of their messages (3). An answer is made as ever and then
// made anew here, so that no other dialect pays for this one.
func withoutZeros(frames []byte) []byte {
	const prefix = 4
	out := make([]byte, 0, len(frames))
	for len(frames) > 0 {
		size := prefix + int(binary.LittleEndian.Uint32(frames))
		out = appendWithoutZeros(out, frames[:size])
		frames = frames[size:]
	}
	return out
}

func appendWithoutZeros(b, frame []byte) []byte {
	f, err := messages.ParseFrame(frame[4:])
	kind := answerKinds[f.Command]
	if err != nil || kind == nil {
		return append(b, frame...)
	}
	m := kind.ProtoReflect().New()
	if (proto.UnmarshalOptions{AllowPartial: true}).Unmarshal(f.Body, m.Interface()) != nil {
		return append(b, frame...)
	}
	clearZeros(m)
	start := len(b)
	b = messages.AppendFrameStart(b, f.Command, f.ID, nil)
	b, _ = proto.MarshalOptions{AllowPartial: true, Deterministic: true}.MarshalAppend(b, m.Interface()) // it came from bytes
	b, _ = messages.EndFrame(b, start)                                                                   // it is shorter than it was
	return b
}

// clearZeros clears the fields that have the value which an absent one means. A message that is there stays, empty or not.
func clearZeros(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				clearZeros(value.List().Get(i).Message())
			}
		case field.IsList():
		case field.Message() != nil:
			clearZeros(value.Message())
		case value.Equal(field.Default()):
			m.Clear(field)
		}
		return true
	})
}
