package server

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// How long a server that is told to shut down still answers, that it is not ready, and a node of a cluster.
const (
	shutdownTime     = 80 * time.Millisecond
	nodeShutdownTime = 550 * time.Millisecond
)

// shutDown ends the server in steps, as a real one does that is told to over HTTP (4.13): from now on it takes no requests. The
// rest is for behind the answer, and does not wait: every subscription is dropped, and a moment later the server closes.
func (s *Server) shutDown() (rest func()) {
	if !s.leaving.CompareAndSwap(false, true) {
		return func() {}
	}
	return s.endSoon
}

func (s *Server) endSoon() {
	s.subscriptions.dropAll()
	s.groups.endAll()
	after := shutdownTime
	if s.node != nil {
		after = nodeShutdownTime
	}
	go func() {
		timer := time.NewTimer(after)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.stop: // somebody else closes it
		}
		if err := s.Close(); err != nil {
			s.log.LogAttrs(context.Background(), slog.LevelError, "the server did not close well", slog.Any("err", err))
		}
	}()
}

// dropAll ends all subscriptions and tells their clients.
func (r *registry) dropAll() {
	r.mu.Lock()
	all := r.byStream
	r.byStream = nil
	r.mu.Unlock()
	for _, subs := range all {
		for _, sub := range subs {
			sub.drop()
		}
	}
}

// drop tells the client that there is nothing more to come.
func (sub *subscription) drop() {
	frame, _ := messages.EndFrame(messages.AppendFrameStart(nil, messages.SubscriptionDropped, sub.id, nil), 0)
	o := sub.session.out
	o.mu.Lock()
	sub.gone = true
	err := o.add(frame)
	o.mu.Unlock()
	signal(o.wake)
	if err != nil {
		sub.session.end(err)
	}
}

// endAll ends all groups and tells their consumers. What they have written stays.
func (s *groupService) endAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range slices.Clone(s.entries) {
		s.remove(g)
	}
}
