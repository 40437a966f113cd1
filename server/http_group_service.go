package server

import "github.com/goeventstore/eventstore/server/internal/groups"

// groupsOverHTTP are the groups as the HTTP side asks for them.
type groupsOverHTTP struct{ *groupService }

// wait waits for the result of a change.
func (s groupsOverHTTP) wait(change func(done groupDone)) httpGroupOutcome {
	outcome := make(chan httpGroupOutcome, 1) // the writer does not wait for us
	change(func(result groupResult, reason string) { outcome <- httpGroupOutcome{httpGroupResult(result), reason} })
	select {
	case o := <-outcome:
		return o
	case <-s.server.writer.ended:
		return httpGroupOutcome{httpGroupFail, errWriterEnded.Error()}
	}
}

func (s groupsOverHTTP) CreateGroup(by *user, stream, group string, settings *httpGroupSettings) httpGroupOutcome {
	return s.wait(func(done groupDone) { s.create(by, settings.of(stream, group), done) })
}

func (s groupsOverHTTP) UpdateGroup(by *user, stream, group string, settings *httpGroupSettings) httpGroupOutcome {
	return s.wait(func(done groupDone) { s.update(by, settings.of(stream, group), done) })
}

func (s groupsOverHTTP) DeleteGroup(by *user, stream, group string) httpGroupOutcome {
	return s.wait(func(done groupDone) { s.delete(by, stream, group, done) })
}

func (s groupsOverHTTP) ReplayParked(by *user, stream, group string, stopAt int64) httpGroupOutcome {
	result, reason := s.replay(by, stream, group, stopAt)
	return httpGroupOutcome{httpGroupResult(result), reason}
}

func (s groupsOverHTTP) GroupStatistics() []httpGroupStatistics {
	known := s.allStats("")
	all := make([]httpGroupStatistics, 0, len(known))
	for i := range known {
		all = append(all, statisticsOf(&known[i]))
	}
	return all
}

func (s *httpGroupSettings) of(stream, group string) *groups.Settings {
	return &groups.Settings{
		Stream: stream, Group: group, ResolveLinks: s.ResolveLinks, Statistics: s.ExtraStatistics,
		MessageTimeout: s.MessageTimeout, StartFrom: s.StartFrom, LiveBuffer: s.LiveBuffer, Buffer: s.Buffer,
		MaxRetries: s.MaxRetries, ReadBatch: s.ReadBatch, CheckpointAfter: s.CheckpointAfter,
		CheckpointMin: s.MinCheckpoint, CheckpointMax: s.MaxCheckpoint, MaxConsumers: s.MaxSubscribers, Strategy: s.Strategy,
	}
}

func statisticsOf(g *groups.Stats) httpGroupStatistics {
	s := &g.Settings
	out := httpGroupStatistics{
		stream: s.Stream, group: s.Group, status: g.Status, perSecond: float64(g.PerSecond), processed: g.Total,
		sinceMeasured: g.SinceLast, lastProcessed: g.Checkpoint, lastKnown: g.LastKnown, readBuffer: g.Buffered,
		liveBuffer: int64(g.Aside), retryBuffer: g.Retrying, inFlight: g.InFlight,
		settings: httpGroupSettings{
			ResolveLinks: s.ResolveLinks, StartFrom: s.StartFrom, MessageTimeout: s.MessageTimeout, ExtraStatistics: s.Statistics,
			MaxRetries: s.MaxRetries, LiveBuffer: s.LiveBuffer, Buffer: s.Buffer, ReadBatch: s.ReadBatch,
			CheckpointAfter: s.CheckpointAfter, MinCheckpoint: s.CheckpointMin, MaxCheckpoint: s.CheckpointMax,
			MaxSubscribers: s.MaxConsumers, Strategy: s.Strategy,
		},
	}
	for _, c := range g.Consumers {
		one := httpGroupConnection{
			From: c.From, User: c.User, PerSecond: float64(c.PerSecond), Processed: c.Total, SinceMeasured: c.SinceLast,
			Slots: c.Free, InFlight: c.InFlight,
		}
		if one.User == "" {
			one.User = "anonymous"
		}
		for _, m := range c.Measured {
			one.Extra = append(one.Extra, httpGroupMeasurement{m.Key, m.Value})
		}
		out.connections = append(out.connections, one)
	}
	return out
}
