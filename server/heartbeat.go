package server

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// The heartbeats of a real server's client port (4.16).
const (
	heartbeatInterval = 2000 * time.Millisecond
	heartbeatTimeout  = 1000 * time.Millisecond
)

var (
	errSilent       = errors.New("the peer did not answer a heartbeat")
	errNoFirstFrame = errors.New("the peer sent no whole frame")
)

// watch asks a silent peer whether it lives and ends the session of one that does not answer. The checks run on a grid
// that starts with the connection: a request follows 2 to 4 s after the last byte, and the end 1 s later. Any byte is a
// sign of life, of whatever frame. Silent is who was waited for all the time: while it is served its bytes lie in the socket.
func (c *session) watch() {
	started := time.Now()
	timer := time.NewTimer(heartbeatInterval)
	defer timer.Stop()
	seen := uint64(1) // the first wait for the peer
	var asked uint64
	waiting := false
	for {
		select {
		case <-timer.C:
		case <-c.stop:
			return
		}
		if !c.framed.Load() && time.Since(started) >= firstFrameDeadline {
			c.end(errNoFirstFrame)
			return
		}
		turn := c.turns.Load()
		switch {
		case turn != seen || turn%2 == 0 || c.server.paused():
			seen, waiting = turn, false
			timer.Reset(heartbeatInterval)
		case waiting:
			c.end(errSilent)
			return
		default:
			asked++
			if err := c.out.sendUrgent(messages.HeartbeatRequest, heartbeatID(asked)); err != nil {
				c.end(err)
				return
			}
			waiting = true
			timer.Reset(heartbeatTimeout)
		}
	}
}

// heartbeatID makes the id of the n-th request of a connection. Nothing depends on it but that it is not zero.
func heartbeatID(n uint64) messages.ID {
	var id messages.ID
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}
