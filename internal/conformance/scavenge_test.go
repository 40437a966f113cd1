package conformance_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// These tests are serial: there is one scavenge at a time.

var scavengeRequest = messages.Raw(messages.ScavengeDatabase, nil)

func (p *peer) scavenge(credentials ...string) *pb.ScavengeDatabaseCompleted {
	p.t.Helper()
	var m pb.ScavengeDatabaseCompleted
	p.call(scavengeRequest, credentials...).into(p.t, messages.ScavengeDatabaseCompleted, &m)
	return &m
}

func TestScavengeAnswers(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	m := p.scavenge()
	require.Equal(t, pb.ScavengeDatabaseCompleted_Failed, m.GetResult())
	require.Equal(t, "Access denied.", m.GetError())
	require.Zero(t, m.GetTotalSpaceSaved())

	require.Equal(t, messages.NotAuthenticated, p.call(scavengeRequest, "admin", "not the password").command)

	m = p.scavenge(p.admin()...)
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, m.GetResult(), "%s", m.GetError())
	require.Nil(t, m.Error)
	require.NotNil(t, m.TotalTimeMs)
	require.NotNil(t, m.TotalSpaceSaved)

	// Nobody looks at the body.
	for _, body := range []string{"\x08\x01", "\xff\xff\xff"} {
		p.call(messages.Raw(messages.ScavengeDatabase, []byte(body)), p.admin()...).into(t, messages.ScavengeDatabaseCompleted, m)
		require.Equal(t, pb.ScavengeDatabaseCompleted_Success, m.GetResult(), "%s", m.GetError())
	}

	// The second of two in one segment is refused, unless the first was through already.
	refused := false
	for range 50 {
		one, two := p.id(), p.id()
		p.write(slices.Concat(p.frame(one, scavengeRequest, p.admin()...), p.frame(two, scavengeRequest, p.admin()...)))
		p.reply(one).into(t, messages.ScavengeDatabaseCompleted, m)
		require.Equal(t, pb.ScavengeDatabaseCompleted_Success, m.GetResult(), "%s", m.GetError())
		p.reply(two).into(t, messages.ScavengeDatabaseCompleted, m)
		if m.GetResult() == pb.ScavengeDatabaseCompleted_InProgress {
			refused = true
			break
		}
	}
	require.True(t, refused)
	require.Equal(t, "Scavenge already in progress.", m.GetError())
	require.Zero(t, m.GetTotalTimeMs())
}

// TestScavengeTraces: a run has a stream of its own, and a link to each event of it. One that was refused has them as well.
func TestScavengeTraces(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for result, types := range map[string][]string{
		"Success": {"$scavengeStarted", "$scavengeCompleted"}, "Failed": {"$scavengeCompleted"},
	} {
		var credentials []string
		if result == "Success" {
			credentials = p.admin()
		}
		from := p.asAdmin("$scavenges", -1, 1, true).GetLastEventNumber() + 1
		p.scavenge(credentials...)
		var run *pb.ReadStreamEventsCompleted
		require.Eventually(t, func() bool { // a scavenge is answered before its traces are written
			run = p.linkedRun(from, len(types))
			return run != nil
		}, hang, time.Millisecond)
		stream := run.GetEvents()[0].GetEvent().GetEventStreamId()
		id, ok := strings.CutPrefix(stream, "$scavenges-")
		require.True(t, ok)
		require.NoError(t, uuid.Validate(id))
		for n, e := range run.GetEvents() {
			require.Equal(t, types[n], e.GetEvent().GetEventType())
			require.EqualValues(t, 1, e.GetEvent().GetDataContentType())
			text := string(e.GetEvent().GetData())
			require.True(t, strings.HasPrefix(text, "{\n  \"scavengeId\": \""+id+"\",\n  \"nodeEndpoint\": \""), text)
		}
		var completed struct {
			Result, TimeTaken string
			Error             *string
			SpaceSaved        *int64
		}
		require.NoError(t, json.Unmarshal(run.GetEvents()[len(types)-1].GetEvent().GetData(), &completed))
		require.Equal(t, result, completed.Result)
		require.Equal(t, result == "Success", completed.Error == nil)
		require.Regexp(t, `^(\d+\.)?\d\d:\d\d:\d\d(\.\d{7})?$`, completed.TimeTaken)
		require.NotNil(t, completed.SpaceSaved)
		metadata := p.asAdmin("$$"+stream, -1, 1, true).GetEvents()
		require.Equal(t, result == "Success", len(metadata) == 1)
		if len(metadata) == 1 {
			require.Equal(t, `{"$maxAge":2592000}`, string(metadata[0].GetEvent().GetData()))
		}
	}
}

// linkedRun returns the events of a run of this length that is linked from the event with this number on, nil when there is
// none yet. What is left of earlier runs is passed over.
func (p *peer) linkedRun(from int64, length int) *pb.ReadStreamEventsCompleted {
	p.t.Helper()
	links := map[string]int{}
	for _, e := range p.asAdmin("$scavenges", from, 100, false).GetEvents() {
		require.Equal(p.t, "$>", e.GetEvent().GetEventType())
		_, stream, _ := strings.Cut(string(e.GetEvent().GetData()), "@")
		links[stream]++
	}
	for stream, n := range links {
		if run := p.asAdmin(stream, 0, 100, false); n == length && len(run.GetEvents()) == length {
			return run
		}
	}
	return nil
}

// asAdmin reads a stream as an administrator.
func (p *peer) asAdmin(stream string, from int64, count int32, backward bool) *pb.ReadStreamEventsCompleted {
	p.t.Helper()
	r := &messages.StreamRead{Stream: stream, From: from, Count: count, Backward: backward, RequireLeader: true}
	var m pb.ReadStreamEventsCompleted
	require.NoError(p.t, messages.Reply{Command: r.Command() + 1, Body: p.call(r, p.admin()...).body}.Unmarshal(&m))
	return &m
}

// TestScavengeChangesNoStream: what could be read and written before can be so behind it.
func TestScavengeChangesNoStream(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	truncated, deleted, gone := p.in(existing), p.in(softDeleted), p.in(hardDeleted)
	require.Equal(t, messages.Success, p.metadata(truncated, `{"$maxCount":1}`).GetResult())
	streams := []string{truncated, deleted, gone, "$$" + truncated, "$$" + deleted, "$$" + gone}
	all := func() (pages []page) {
		for _, stream := range streams {
			pages = append(pages, p.forward(stream, 0, 9), p.backward(stream, -1, 9))
		}
		return pages
	}
	before := all()
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge(p.admin()...).GetResult())
	require.Equal(t, before, all())
	wrong(t, p.append(truncated, 1, uuid.NewString()), 2)
	written(t, p.append(truncated, 2, uuid.NewString()), 3, 3)
	written(t, p.append(deleted, -1, uuid.NewString()), 3, 3)
	require.Equal(t, messages.StreamDeleted, p.append(gone, -2, uuid.NewString()).GetResult())
}

// TestScavengedPlaces: a place in the log is still one when what was there is scavenged, in both directions. Whether it is
// depends on how large the log is on a real server.
func TestScavengedPlaces(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	goes, stays := newStream("goes"), newStream("stays")
	var places []int64 // of the events that go, each before one that stays
	for i := range int64(3) {
		places = append(places, p.append(goes, i-1, uuid.NewString()).GetCommitPosition())
		written(t, p.append(stays, i-1, uuid.NewString()), i, i)
	}
	written(t, p.append(goes, 2, uuid.NewString()), 3, 3)
	require.Equal(t, messages.Success, p.metadata(goes, `{"$maxCount":1}`).GetResult())
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge(p.admin()...).GetResult())
	all := []string{"0@" + stays, "1@" + stays, "2@" + stays}
	for i, place := range places {
		require.Equal(t, all[i:], p.walk(messages.AllRead{Commit: place, Prepare: place, Count: 2}, 3-i, stays))
		if i > 0 {
			down := p.walk(messages.AllRead{Commit: place, Prepare: place, Count: 2, Backward: true}, i, stays)
			slices.Reverse(down)
			require.Equal(t, all[:i], down)
		}
	}
}
