package persistent

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// Create makes a group on a stream, which need not be there yet. ErrGroupExists says that there is one of this name, with
// whatever settings. Managing groups takes the rights of an administrator. When the answer is lost it is not sent again:
// see eventstore.MaybeApplied.
func Create(ctx context.Context, c *eventstore.Client, stream, group string, s Settings, opts ...eventstore.CallOption) error {
	err := checkNames(stream, group)
	if err == nil {
		err = s.check()
	}
	if err == nil {
		var m pb.CreatePersistentSubscriptionCompleted
		err = call(ctx, c, messages.Of(messages.CreatePersistentSubscription, s.message(stream, group)), &m, opts)
		if err == nil {
			err = verdict(messages.CreatePersistentSubscription, int32(m.GetResult()), m.GetReason(), ErrGroupExists)
		}
	}
	return managed("create group", stream, group, err)
}

// Update replaces all settings of a group. Its members are dropped and join again, the group goes on behind the last place that
// it stored: what was processed since comes again.
func Update(ctx context.Context, c *eventstore.Client, stream, group string, s Settings, opts ...eventstore.CallOption) error {
	err := checkNames(stream, group)
	if err == nil {
		err = s.check()
	}
	if err == nil {
		m := s.message(stream, group)
		request := &pb.UpdatePersistentSubscription{
			SubscriptionGroupName: m.SubscriptionGroupName, EventStreamId: m.EventStreamId, ResolveLinkTos: m.ResolveLinkTos,
			StartFrom: m.StartFrom, MessageTimeoutMilliseconds: m.MessageTimeoutMilliseconds, RecordStatistics: m.RecordStatistics,
			LiveBufferSize: m.LiveBufferSize, ReadBatchSize: m.ReadBatchSize, BufferSize: m.BufferSize, MaxRetryCount: m.MaxRetryCount,
			PreferRoundRobin: m.PreferRoundRobin, CheckpointAfterTime: m.CheckpointAfterTime, CheckpointMaxCount: m.CheckpointMaxCount,
			CheckpointMinCount: m.CheckpointMinCount, SubscriberMaxCount: m.SubscriberMaxCount, NamedConsumerStrategy: m.NamedConsumerStrategy,
		}
		var answer pb.UpdatePersistentSubscriptionCompleted
		err = call(ctx, c, messages.Of(messages.UpdatePersistentSubscription, request), &answer, opts)
		if err == nil {
			err = verdict(messages.UpdatePersistentSubscription, int32(answer.GetResult()), answer.GetReason(), ErrGroupNotFound)
		}
	}
	return managed("update group", stream, group, err)
}

// Delete deletes a group with its place and its parked messages. Its members end with ErrGroupNotFound.
func Delete(ctx context.Context, c *eventstore.Client, stream, group string, opts ...eventstore.CallOption) error {
	err := checkNames(stream, group)
	if err == nil {
		request := &pb.DeletePersistentSubscription{SubscriptionGroupName: &group, EventStreamId: &stream}
		var m pb.DeletePersistentSubscriptionCompleted
		err = call(ctx, c, messages.Of(messages.DeletePersistentSubscription, request), &m, opts)
		if err == nil {
			err = verdict(messages.DeletePersistentSubscription, int32(m.GetResult()), m.GetReason(), ErrGroupNotFound)
		}
	}
	return managed("delete group", stream, group, err)
}

func managed(op, stream, group string, err error) error {
	if err == nil {
		return nil
	}
	return wrap(op, stream, group, err)
}

func checkNames(stream, group string) error {
	switch {
	case stream == "":
		return argument("the stream's name is empty")
	case stream == eventstore.All:
		return argument("groups follow one stream, not %s", eventstore.All)
	case group == "":
		return argument("the group's name is empty: a server creates such a group, but nobody can join it")
	}
	return nil
}

func call(ctx context.Context, c *eventstore.Client, r messages.Request, answer proto.Message, opts []eventstore.CallOption) error {
	reply, err := c.Call(ctx, r, opts...)
	if err != nil {
		return err
	}
	if err := reply.Unmarshal(answer); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	return nil
}

// verdict is the error of a result. The three answers have the same numbers; 1 is the one that differs in meaning.
func verdict(c messages.Command, result int32, reason string, one error) error {
	switch result {
	case 0:
		return nil
	case 1:
		return one
	case 2:
		return &eventstore.ServerError{Command: c, Message: reason}
	case 3:
		return fmt.Errorf("%w: the server says %q", eventstore.ErrAccessDenied, reason)
	}
	return fmt.Errorf("%w: result %d %s", eventstore.ErrProtocol, result, reason)
}
