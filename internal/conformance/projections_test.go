package conformance_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// projectionsBound is how long the first link may take before a server counts as one whose projections do not run.
const projectionsBound = 5 * time.Second

// noProjections is set when a real server turned out to have none, so that each test need not wait for them.
var noProjections atomic.Bool

// projected is a server whose system projections run, a peer, and a category that nobody has written to. A real server
// without is skipped.
func projected(t *testing.T) (srv *eventstoretest.Server, p *peer, category string) {
	t.Helper()
	srv = serve(t, eventstoretest.Projections())
	const reason = "no link to a new event came within %s: the server's system projections do not run, " +
		"or TestLinksToWhatMayNotBeRead has ended them"
	if !srv.Embedded() && noProjections.Load() {
		cannot(t, reason, projectionsBound)
	}
	p = dialPeer(t, srv)
	category = newCategory()
	written(t, p.append(category+"-probe", -1, "probe"), 0, 0)
	for began := time.Now(); ; {
		if len(p.index("$ce-"+category)) > 0 {
			return srv, p, newCategory()
		}
		if time.Since(began) < projectionsBound {
			continue
		}
		require.False(t, srv.Embedded(), "the embedded server does not index")
		noProjections.Store(true)
		cannot(t, reason, projectionsBound)
	}
}

// newCategory has no dash in it.
func newCategory() string { return "conformance" + strings.ReplaceAll(uuid.NewString(), "-", "") }

// indexed is an event of an index stream.
type indexed struct {
	typ, data string
	plain     bool // neither it nor its metadata count as JSON
	number    int64
	metadata  string // but for $v, $c and $p
	position  [2]int64
}

// index reads the last links of an index stream, in their order, as anybody may.
func (p *peer) index(stream string) []indexed {
	p.t.Helper()
	var m pb.ReadStreamEventsCompleted
	p.call(&messages.StreamRead{Stream: stream, From: -1, Count: 4096, Backward: true, RequireLeader: true}).
		into(p.t, messages.ReadStreamEventsBackwardCompleted, &m)
	switch m.GetResult() {
	case messages.ReadStreamSuccess:
	case messages.ReadStreamNoStream, messages.ReadStreamAccessDenied: // there are no metadata yet that allow it
		return nil
	default:
		require.Fail(p.t, m.GetResult().String())
	}
	var links []indexed
	for _, r := range slices.Backward(m.GetEvents()) {
		e := r.GetEvent()
		link := indexed{
			typ: e.GetEventType(), data: string(e.GetData()), number: e.GetEventNumber(),
			plain: e.GetDataContentType() == 0 && e.GetMetadataContentType() == 0,
		}
		var at struct {
			Version string `json:"$v"`
			Commit  int64  `json:"$c"`
			Prepare int64  `json:"$p"`
		}
		if json.Unmarshal(e.GetMetadata(), &at) == nil {
			start := fmt.Sprintf(`{"$v":"%s","$c":%d,"$p":%d`, at.Version, at.Commit, at.Prepare)
			link.metadata = strings.TrimPrefix(string(e.GetMetadata()), start)
			link.position = [2]int64{at.Commit, at.Prepare}
		}
		links = append(links, link)
	}
	return links
}

// upTo reads an index stream when the link with these data has come: all before it has by then. Of a stream that others
// write to as well it has the links whose data contain ours.
func (p *peer) upTo(stream, last, ours string) []indexed {
	p.t.Helper()
	var links []indexed
	require.Eventually(p.t, func() bool {
		links = slices.DeleteFunc(p.index(stream), func(l indexed) bool { return !strings.Contains(l.data, ours) })
		return len(links) > 0 && links[len(links)-1].data == last
	}, hang, time.Millisecond, "%s in %s", last, stream)
	return links
}

func dataOf(links []indexed) (data []string) {
	for _, l := range links {
		data = append(data, l.data)
	}
	return data
}

// adminAppend appends events as the administrator.
func (p *peer) adminAppend(stream string, events ...messages.NewEvent) *pb.WriteEventsCompleted {
	p.t.Helper()
	var m pb.WriteEventsCompleted
	p.call(&messages.Append{Stream: stream, Expected: -2, Events: events, RequireLeader: true}, p.admin()...).
		into(p.t, messages.WriteEventsCompleted, &m)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	return &m
}

func linkTo(target string) messages.NewEvent {
	return messages.NewEvent{ID: uuid.New(), Type: "$>", Data: []byte(target)}
}

func TestProjectionsOfAnEvent(t *testing.T) {
	_, p, category := projected(t)
	stream, typ := category+"-1", "type"+category
	id := uuid.New()
	m := p.appendEvents(stream, -1, messages.NewEvent{
		ID: id, Type: typ, ContentType: 1, Data: []byte("{}"), Metadata: []byte(`{"$correlationId":"a\"b"}`),
	})
	for index, want := range map[string]indexed{
		"$ce-" + category:       {typ: "$>", data: "0@" + stream, metadata: fmt.Sprintf(`,"$o":"%s"`, stream)},
		"$et-" + typ:            {typ: "$>", data: "0@" + stream},
		"$category-" + category: {typ: "$@", data: stream},
	} {
		want.metadata += fmt.Sprintf(`,"$causedBy":"%s","$correlationId":"a\"b"}`, id)
		want.plain = true
		want.position = [2]int64{m.GetCommitPosition(), m.GetPreparePosition()}
		require.Equal(t, []indexed{want}, p.upTo(index, want.data, ""), index)

		var acl pb.ReadEventCompleted
		p.call(&messages.EventRead{Stream: "$$" + index, Number: -1, RequireLeader: true}).into(t, messages.ReadEventCompleted, &acl)
		require.JSONEq(t, `{"$acl":{"$r":"$all","$mr":"$all"}}`, string(acl.GetEvent().GetEvent().GetData()), "anybody may read it")
		require.Equal(t, messages.AccessDenied, p.append(index, -2, "foreign").GetResult(), "and nobody write")
	}
	links := p.upTo("$streams", "0@"+stream, category)
	require.Len(t, links, 1)
	require.Equal(t, fmt.Sprintf(`,"$causedBy":"%s","$correlationId":"a\"b"}`, id), links[0].metadata)
}

// TestProjectionsOfDeletes: soft and hard ones, and metadata.
func TestProjectionsOfDeletes(t *testing.T) {
	_, p, category := projected(t)
	soft, hard, kept, last := category+"-soft", category+"-hard", category+"-kept", category+"-z"
	p.append(soft, -1, "a")
	p.append(hard, -1, "b")
	require.Equal(t, messages.Success, p.delete(soft, -2, false).GetResult())
	require.Equal(t, messages.Success, p.delete(hard, -2, true).GetResult())
	written(t, p.metadata(kept, `{"k":1}`), 0, 0)
	written(t, p.metadata(kept, `{"k":2}`), 1, 1)
	written(t, p.append(last, -1, "last"), 0, 0)

	links := p.upTo("$ce-"+category, "0@"+last, "")
	tombstone := "9223372036854775807@" + hard
	ofCategory := []string{"0@" + soft, "0@" + hard, "0@$$" + soft, tombstone, "0@" + last}
	if p.before40() { // metadata belong to the category of their stream
		tombstone = "2147483647@" + hard
		ofCategory = []string{"0@" + soft, "0@" + hard, "0@$$" + soft, tombstone, "0@$$" + kept, "1@$$" + kept, "0@" + last}
	}
	require.Equal(t, ofCategory, dataOf(links))
	for i, stream := range map[int]string{2: soft, 3: hard} {
		require.True(t, strings.HasPrefix(links[i].metadata, fmt.Sprintf(`,"$o":"%s","$deleted":-1,"$causedBy":"`, stream)), links[i].metadata)
	}
	require.Equal(t, []string{soft, hard, last}, dataOf(p.upTo("$category-"+category, last, "")))
	require.Equal(t, []string{"0@" + soft, "0@" + hard, "0@$$" + soft, "0@$$" + kept, "0@" + last}, dataOf(p.upTo("$streams", "0@"+last, category)))
	require.Equal(t, []string{"0@" + kept, "1@" + kept}, dataOf(p.upTo("$et-$metadata", "1@"+kept, category)), "the stream, not its metastream")
	links = p.upTo("$et-$deleted", tombstone, category)
	require.Equal(t, []string{"0@" + soft, tombstone}, dataOf(links))
	require.True(t, strings.HasPrefix(links[0].metadata, `,"$deleted":-1,"$causedBy":"`), links[0].metadata)
}

// TestProjectionsOfLinks: a user's link becomes one to its target.
func TestProjectionsOfLinks(t *testing.T) {
	_, p, category := projected(t)
	target, gone, last := category+"-target", category+"-gone", category+"-z"
	first := p.named("a")[0]
	p.appendEvents(target, -1, first)
	p.append(gone, -1, "b")
	require.Equal(t, messages.Success, p.delete(gone, -2, false).GetResult())
	p.upTo("$ce-"+category, "0@$$"+gone, "") // a real server resolves when it comes by
	p.appendEvents(category+"-1", -1, linkTo("0@"+target), linkTo("7@"+target), linkTo("nothing"), linkTo("0@"+category+"-1"))
	p.appendEvents(category+"-2", -1, linkTo("0@"+gone), linkTo("0@"+target))
	p.append(last, -1, "last")

	links := p.upTo("$ce-"+category, "0@"+last, "")[3:]
	require.Equal(t, []string{"0@" + target, "-1@", "-1@", "0@" + target, "0@" + target, "0@" + last}, dataOf(links))
	require.Equal(t, fmt.Sprintf(`,"$o":"%s-1","$causedBy":"%s"}`, category, first.ID), links[0].metadata)
	require.Equal(t, fmt.Sprintf(`,"$o":"%s-1"}`, category), links[1].metadata)
	require.Equal(t, []string{target, gone, category + "-1", last}, dataOf(p.upTo("$category-"+category, last, "")), "one that begins with a link to nothing is in no list")
}

func TestProjectionsOfNames(t *testing.T) {
	_, p, category := projected(t)
	typ := "type" + category
	streams := []string{category, "-" + category, category + "-", category + "-y-z", "$" + category + "-s", category + "-last"}
	for _, stream := range streams {
		p.adminAppend(stream, messages.NewEvent{ID: uuid.New(), Type: typ})
	}
	p.adminAppend(streams[5], messages.NewEvent{ID: uuid.New(), Type: "$" + typ})
	require.Equal(t, []string{"0@" + streams[2], "0@" + streams[3], "0@" + streams[5], "1@" + streams[5]},
		dataOf(p.upTo("$ce-"+category, "1@"+streams[5], "")))
	require.Equal(t, []string{"0@" + streams[0], "0@" + streams[1], "0@" + streams[2], "0@" + streams[3], "0@" + streams[5]},
		dataOf(p.upTo("$et-"+typ, "0@"+streams[5], "")))
	require.Equal(t, []string{"1@" + streams[5]}, dataOf(p.upTo("$et-$"+typ, "1@"+streams[5], "")))
	for _, none := range []string{"$ce-$" + category, "$ce-" + category + "-y", "$category-$" + category} {
		require.Empty(t, p.index(none), none)
	}
}

// TestProjectionsGoOn: a soft-deleted index stream is recreated by the next link.
func TestProjectionsGoOn(t *testing.T) {
	_, p, category := projected(t)
	stream, index := category+"-1", "$ce-"+category
	p.append(stream, -1, "a", "b")
	p.upTo(index, "1@"+stream, "")
	var m pb.DeleteStreamCompleted
	p.call(deleteOf(index, -2, false), p.admin()...).into(t, messages.DeleteStreamCompleted, &m)
	require.Equal(t, messages.Success, m.GetResult())
	p.append(stream, 1, "c")
	require.Eventually(t, func() bool {
		// Its metadata are gone, so that it is the administrators' now.
		var m pb.ReadStreamEventsCompleted
		p.call(&messages.StreamRead{Stream: index, Count: 10, From: 0, RequireLeader: true}, p.admin()...).
			into(t, messages.ReadStreamEventsForwardCompleted, &m)
		events := m.GetEvents()
		return len(events) == 1 && events[0].GetEvent().GetEventNumber() == 2 && string(events[0].GetEvent().GetData()) == "2@"+stream
	}, hang, time.Millisecond)
}

// TestProjectionsWhileWritersWrite: the links of a category come once, in the order of the log.
func TestProjectionsWhileWritersWrite(t *testing.T) {
	srv, p, category := projected(t)
	const writers, each = 4, 100
	var wait sync.WaitGroup
	for i := range writers {
		w := dialPeer(t, srv)
		wait.Go(func() {
			for n := range each {
				if w.append(fmt.Sprintf("%s-%d", category, i), int64(n)-1, fmt.Sprint("w", i, "n", n)).GetResult() != messages.Success {
					t.Errorf("writer %d: event %d was not written", i, n)
					return
				}
			}
		})
	}
	wait.Wait()
	var links []indexed
	require.Eventually(t, func() bool {
		links = p.index("$ce-" + category)
		return len(links) >= writers*each
	}, hang, time.Millisecond)
	require.Len(t, links, writers*each)
	next := map[string]int{}
	for i, l := range links {
		require.EqualValues(t, i, l.number)
		if i > 0 {
			require.Greater(t, l.position[0], links[i-1].position[0])
		}
		_, stream, _ := strings.Cut(l.data, "@")
		require.Equal(t, fmt.Sprint(next[stream], "@", stream), l.data)
		next[stream]++
	}
}
