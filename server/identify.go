package server

import (
	"context"
	"log/slog"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// identify serves IdentifyClient (4.17). Garbage gets no answer, and neither does anything once the connection was
// ruined by a version that is not known. Only the low byte of the version counts.
func (c *session) identify(f *messages.Frame) {
	var m pb.IdentifyClient
	if c.ruined() || !identifyShape.message(f, &m) {
		return
	}
	version := byte(m.GetVersion())
	c.version.Store(uint32(version))
	c.log.LogAttrs(context.Background(), slog.LevelDebug, "client identified",
		slog.Int("version", int(version)), slog.String("connection_name", m.GetConnectionName()))
	c.reply(messages.ClientIdentified, f.ID, "")
}

// ruined reports whether the client named a version that is not known: every operation is a BadRequest from then on.
func (c *session) ruined() bool { return c.version.Load() > 1 }

// narrow reports whether the client has 32-bit event numbers: it never identified itself, or as version 0, to which the newest
// servers pay no heed.
func (c *session) narrow() bool {
	d := &c.server.dialect
	return d.Numbers32 || c.version.Load() == 0 && d.generation < generation226
}

// number is an event number as this client can read it (3.8).
func (c *session) number(n int64) int64 { return narrowNumber(n, c.narrow()) }

func narrowNumber(n int64, narrow bool) int64 {
	if narrow && n == messages.DeletedNumber {
		return messages.DeletedNumber32
	}
	return n
}
