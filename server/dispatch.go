package server

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// How a command is served.
type service struct {
	// serve answers a request of u. It runs in the session's read goroutine; f and what it aliases are valid until it
	// returns. An error ends the connection.
	serve func(c *session, f *messages.Frame, u *user) error
	// zeroID: a request may be without an id (1.2).
	zeroID bool
	// ignored: accepted and never answered.
	ignored bool
	// filtered: some dialects have it.
	filtered bool
}

// services is what is done with each command that needs to know its user; handle serves the others. A command that is
// not here is one that only a server sends, or none at all (2, "Odd inputs").
var services = [256]service{
	messages.Ping:                     {serve: (*session).ping, zeroID: true},
	messages.WriteEvents:              {serve: (*session).writeEvents},
	messages.DeleteStream:             {serve: (*session).deleteStream},
	messages.TransactionStart:         {serve: (*session).transactionStart},
	messages.TransactionWrite:         {serve: (*session).transactionWrite},
	messages.TransactionCommit:        {serve: (*session).transactionCommit},
	messages.ScavengeDatabase:         {serve: (*session).scavengeDatabase, zeroID: true},
	messages.ReadEvent:                {serve: (*session).readEvent},
	messages.ReadStreamEventsForward:  {serve: (*session).readStream},
	messages.ReadStreamEventsBackward: {serve: (*session).readStream},
	messages.ReadAllEventsForward:     {serve: (*session).readAll},
	messages.ReadAllEventsBackward:    {serve: (*session).readAll},
	messages.SubscribeToStream:        {serve: (*session).subscribe},
	messages.UnsubscribeFromStream:    {serve: (*session).unsubscribe},

	messages.FilteredReadAllEventsForward:  {serve: (*session).readFiltered, filtered: true},
	messages.FilteredReadAllEventsBackward: {serve: (*session).readFiltered, filtered: true},
	messages.FilteredSubscribeToStream:     {serve: (*session).subscribeFiltered, filtered: true},

	messages.CreatePersistentSubscription:    {serve: (*session).createGroup},
	messages.UpdatePersistentSubscription:    {serve: (*session).updateGroup},
	messages.DeletePersistentSubscription:    {serve: (*session).deleteGroup},
	messages.ConnectToPersistentSubscription: {serve: (*session).connectGroup},
	messages.PersistentSubscriptionAckEvents: {serve: (*session).ackEvents},
	messages.PersistentSubscriptionNakEvents: {serve: (*session).nakEvents},

	// The answers that a node forwards to the one that asked.
	messages.WriteEventsCompleted:       {ignored: true},
	messages.TransactionStartCompleted:  {ignored: true},
	messages.TransactionWriteCompleted:  {ignored: true},
	messages.TransactionCommitCompleted: {ignored: true},
	messages.DeleteStreamCompleted:      {ignored: true},
}

// nodeCommands are the names of the commands between nodes, which a real server tells in its refusal.
var nodeCommands = map[messages.Command]string{
	0x05: "PrepareAck",
	0x06: "CommitAck",
	0x07: "SlaveAssignment",
	0x08: "CloneAssignment",
	0x10: "SubscribeReplica",
	0x11: "ReplicaLogPositionAck",
	0x12: "CreateChunk",
	0x13: "RawChunkBulk",
	0x14: "DataChunkBulk",
	0x15: "ReplicaSubscriptionRetry",
	0x16: "ReplicaSubscribed",
}

const (
	textTrusted     = "Trusted writes aren't accepted over the external TCP interface"
	textOutOfBounds = "Index was outside the bounds of the array."
)

// handle serves one frame. An error ends the connection.
func (c *session) handle(f *messages.Frame) error {
	if f.Trusted {
		return errProtocol{id: f.ID, text: textTrusted} // the one fault that tells which request it was
	}
	switch f.Command {
	case messages.HeartbeatRequest:
		return c.out.sendUrgent(messages.HeartbeatResponse, f.ID)
	case messages.HeartbeatResponse:
		return nil
	case messages.IdentifyClient:
		if c.server.dialect.NoIdentify {
			return c.operate(f)
		}
		c.identify(f)
		return nil
	case messages.Authenticate:
		c.authenticate(f)
		return nil
	case messages.BadRequest, messages.NotHandled:
		c.log.LogAttrs(context.Background(), slog.LevelInfo, "the client complains", slog.String("command", f.Command.String()))
		return nil
	default:
		return c.operate(f)
	}
}

// operate serves a frame that speaks for somebody.
func (c *session) operate(f *messages.Frame) error {
	// Wrong credentials are found before anything else about a command, even that it is none (4.18).
	u, err := c.user(f)
	if err != nil {
		return c.notAuthenticated(f, err)
	}
	return c.dispatch(f, u)
}

// dispatch serves a frame of a known user.
func (c *session) dispatch(f *messages.Frame, u *user) error {
	s := &services[f.Command]
	switch {
	case c.ruined() || f.Command == 0xFF:
		c.badRequest(f, textOutOfBounds)
	case s.ignored:
	case f.ID == (messages.ID{}) && !s.zeroID:
		c.badRequest(f, "")
	case s.serve == nil, s.filtered && !c.server.dialect.Filtered, !c.server.dialect.takes(f):
		c.badRequest(f, "")
	case c.server.leaving.Load() && f.Command != messages.Ping: // 4.19
		return c.replyMessage(messages.NotHandled, f.ID, &pb.NotHandled{Reason: pb.NotHandled_NotReady.Enum()})
	default:
		if n := c.server.node; n != nil {
			if refusal := n.refuses(f); refusal != nil {
				return c.replyMessage(messages.NotHandled, f.ID, refusal)
			}
		}
		return s.serve(c, f, u)
	}
	return nil
}

// badRequest refuses a request and keeps the connection (4.20). The second line is mostly empty.
func (c *session) badRequest(f *messages.Frame, second string) {
	c.log.LogAttrs(context.Background(), slog.LevelDebug, "bad request", slog.String("command", f.Command.String()))
	c.reply(messages.BadRequest, f.ID,
		fmt.Sprintf("Could not unwrap network package for command %s.\n%s", c.server.dialect.commandName(f.Command), second))
}

// commandName is what a server calls a command: the number of one that it does not know.
func (d *Dialect) commandName(command messages.Command) string {
	known := command.Known()
	switch command {
	case messages.FilteredReadAllEventsForward, messages.FilteredReadAllEventsForwardCompleted,
		messages.FilteredReadAllEventsBackward, messages.FilteredReadAllEventsBackwardCompleted,
		messages.FilteredSubscribeToStream, messages.CheckpointReached:
		known = d.Filtered
	case messages.IdentifyClient, messages.ClientIdentified:
		known = !d.NoIdentify
	default:
	}
	if known {
		return command.String()
	}
	if name, ok := nodeCommands[command]; ok {
		return name
	}
	return strconv.Itoa(int(command))
}

// ping serves Ping, which may have any body and a zero id.
func (c *session) ping(f *messages.Frame, _ *user) error {
	b := messages.AppendFrameStart(c.scratch[:0], messages.Pong, f.ID, nil)
	c.send(append(b, f.Body...))
	return nil
}
