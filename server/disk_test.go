package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// runOn starts a server with its log in a folder. The test ends it, or is over.
func runOn(tb testing.TB, folder string) *node {
	tb.Helper()
	network := memnet.New()
	s, err := Start(Config{Listen: network.Listen, DB: folder, Projections: true})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return &node{Server: s, network: network}
}

// restarted is the next server with the folder of another.
func (n *node) restarted(tb testing.TB, folder string) *node {
	tb.Helper()
	require.NoError(tb, n.WaitForProjections(tb.Context()))
	require.NoError(tb, n.Close())
	return runOn(tb, folder)
}

// TestARestartKeepsTheLog: streams, all streams with their positions, metadata, deletes of both kinds, what a scavenge has
// left, and index streams, of which each goes on where it was.
func TestARestartKeepsTheLog(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "made", "by the server")
	n := runOn(t, folder)
	p := n.peer(t)
	p.appended("a-1", expectNoStream, "abc")
	p.appended("a-2", expectNoStream, "d")
	p.metadata("a-1", `{"$maxCount":2}`)
	p.appended("soft-1", expectAny, "ef")
	p.delete("soft-1", expectAny, false)
	p.appended("hard-1", expectAny, "g")
	p.delete("hard-1", expectAny, true)
	p.scavenge("admin", "changeit")
	require.NoError(t, n.WaitForProjections(t.Context()))
	at, log, indexes, all := n.store.Tip(), n.everything(t), n.readIndexes(t), p.tail(0)
	scavenged := n.store.ScavengedTo()
	require.Positive(t, scavenged)

	n = n.restarted(t, folder)
	require.NoError(t, n.WaitForProjections(t.Context()))
	require.Equal(t, at, n.store.Tip(), "the start writes nothing")
	require.Equal(t, scavenged, n.store.ScavengedTo())
	require.Equal(t, log, n.everything(t))
	require.Equal(t, indexes, n.readIndexes(t))
	q := n.peer(t)
	require.Equal(t, all, q.tail(0))
	require.Equal(t, []int64{1, 2}, q.forward("a-1", 0, 9).numbers)
	require.Equal(t, messages.ReadStreamNoStream, q.forward("soft-1", 0, 9).result)
	require.Equal(t, messages.ReadStreamStreamDeleted, q.forward("hard-1", 0, 9).result)
	require.Equal(t, messages.WrongExpectedVersion, q.append("a-1", 1, "h").Result)
	require.Equal(t, messages.StreamDeleted, q.append("hard-1", expectAny, "h").Result)
	require.EqualValues(t, 3, q.appended("a-1", 2, "h").First)
	require.EqualValues(t, 2, q.appended("soft-1", expectAny, "i").First)
	require.NoError(t, n.WaitForProjections(t.Context()))
	got := data(n.readIndexes(t)["$ce-a"])
	require.Equal(t, append(data(indexes["$ce-a"]), "3@a-1"), got, "each link once")
}

// TestARestartKeepsUsersAndSettings, which take effect from the first request on.
func TestARestartKeepsUsersAndSettings(t *testing.T) {
	folder := t.TempDir()
	n := runOn(t, folder)
	require.Equal(t, userSuccess, n.createUser(administrator, "u", "U", "pw", []string{"g"}))
	require.Equal(t, userSuccess, n.changePassword("admin", "changeit", "changed"))
	require.Equal(t, userSuccess, n.disableUser(administrator, "ops"))
	_, err := n.writeOwn(settingsStream, expectAny, jsonEvent("t", []byte(`{"$userStreamAcl":{"$w":"g"}}`)))
	require.NoError(t, err)

	n = n.restarted(t, folder)
	u, err := n.signIn("u", "pw")
	require.NoError(t, err)
	require.True(t, u.in("g"))
	_, err = n.signIn("admin", "changed")
	require.NoError(t, err)
	_, err = n.signIn("admin", "changeit")
	require.ErrorIs(t, err, errUnauthorized)
	_, err = n.signIn("ops", "changeit")
	require.ErrorIs(t, err, errUnauthorized)
	require.Equal(t, []string{"$User admin", "$User ops", "$User u"}, n.events(t, "$users"), "they are made once")
	require.Equal(t, messages.AccessDenied, n.peer(t).append("s", expectAny, "a").Result)
	require.True(t, n.allowed(u, "s", rightWrite))
}

// TestARestartKeepsGroups: their settings, checkpoints and parked messages.
func TestARestartKeepsGroups(t *testing.T) {
	folder := t.TempDir()
	n := runOn(t, folder)
	p := n.peer(t)
	p.appended("s", expectNoStream, "abcdef")
	settings := usualGroup("s")
	settings.CheckpointMin, settings.CheckpointMax = 1, 1
	n.group(t, settings)
	m := p.connect("s", 4)
	ids := m.gets(got{subject: "0@s"}, got{subject: "1@s"}, got{subject: "2@s"}, got{subject: "3@s"})
	m.park("why", ids[1])
	m.ack(ids[0], ids[2])
	m.settle()
	require.Eventually(t, func() bool {
		_, event, err := n.view().event("$persistentsubscription-s::g-checkpoint", -1)
		return err == nil && event != nil && string(dataOf(event.Encoded)) == "2"
	}, time.Minute, time.Millisecond)

	n = n.restarted(t, folder)
	require.Equal(t, *settings, *n.groups.find("s", "g").Settings())
	m = n.peer(t).connect("s", 10)
	ids = m.gets(got{subject: "3@s"}, got{subject: "4@s"}, got{subject: "5@s"})
	m.ack(ids...)
	require.Equal(t, groupSuccess, first(n.groups.replay(adminUser, "s", "g", -1)))
	m.gets(got{"1@s", "0@" + parkedStreamOf("s"), 0})
}

// TestARestartKeepsIDs: what is sent again is known, with every expected version.
func TestARestartKeepsIDs(t *testing.T) {
	folder := t.TempDir()
	n := runOn(t, folder)
	p := n.peer(t)
	p.appended("s", expectAny, "ab")
	p.appended("t", expectNoStream, "c")
	p.appended("s", expectAny, "d")
	n = n.restarted(t, folder)
	p = n.peer(t)
	for _, expected := range []int64{expectAny, expectNoStream} {
		a := p.appended("s", expected, "ab")
		require.Equal(t, []int64{0, 1, -1}, []int64{a.First, a.Last, a.Commit})
	}
	require.EqualValues(t, 2, p.appended("s", expectAny, "d").First)
	require.EqualValues(t, 3, p.appended("s", expectAny, "c").First, "of another stream")
	require.EqualValues(t, 4, p.appended("s", expectAny, "c").First, "the first use counts")
}

// TestOneServerHasAFolder, and says what is wrong with it.
func TestOneServerHasAFolder(t *testing.T) {
	folder := t.TempDir()
	runOn(t, folder)
	_, err := Start(Config{Listen: memnet.New().Listen, DB: folder})
	require.EqualError(t, err, "open the log: the folder "+folder+" is open in another process, or twice in this one")

	file := filepath.Join(folder, "no folder")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = Start(Config{Listen: memnet.New().Listen, DB: file})
	require.ErrorContains(t, err, file)

	// An address that cannot be had leaves no folder locked.
	other := filepath.Join(folder, "other")
	_, err = Start(Config{TCP: "nowhere:port:1", DB: other})
	require.Error(t, err)
	require.NoError(t, runOn(t, other).Close())
}

// committing is a store whose commits a test does.
type committing struct {
	store.Store
	commit atomic.Pointer[func(commit func() error) error]
}

func (c *committing) Commit() error {
	if do := c.commit.Load(); do != nil {
		return (*do)(c.Store.Commit)
	}
	return c.Store.Commit()
}

// commits puts a test between the writer, which has had no request yet, and the store.
func (n *node) commits(t *testing.T) *committing {
	t.Helper()
	n.peer(t).appended("settled", expectAny, "") // the writer waits for its next request now
	c := &committing{Store: n.writer.store}
	n.writer.store = c
	return c
}

// TestNothingIsAnsweredBeforeItsCommit holds a commit: no answer leaves, nobody sees an event, and what comes meanwhile is
// committed together.
func TestNothingIsAnsweredBeforeItsCommit(t *testing.T) {
	n := runOn(t, t.TempDir())
	p, other := n.peer(t), n.peer(t)
	c := n.commits(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var commits atomic.Int64
	hold := func(commit func() error) error {
		if commits.Add(1) == 1 {
			close(entered)
			<-release
		}
		return commit()
	}
	c.commit.Store(&hold)
	id, _ := other.subscribe("s")
	first := p.send(&messages.Append{Stream: "s", Expected: expectAny, Events: events("a")})
	<-entered
	var rest []messages.ID
	for i := range 100 {
		rest = append(rest, p.send(&messages.Append{Stream: "s", Expected: expectAny, Events: events(letters(i))}))
	}
	p.quiet() // a ping is answered, and nothing else
	other.quiet()
	require.Equal(t, messages.ReadStreamNoStream, n.peer(t).forward("s", 0, 9).result)
	close(release)
	require.Equal(t, messages.WriteEventsCompleted, p.reply(first).command)
	for _, id := range rest {
		require.Equal(t, messages.WriteEventsCompleted, p.reply(id).command)
	}
	for i := range int64(101) {
		require.Equal(t, i, other.event(id).Event.Number)
	}
	require.LessOrEqual(t, commits.Load(), int64(4), "100 writes that waited go together, and links behind them")
}

// TestADiskThatIsFull: writes are refused in words and leave nothing behind, also in the memory of the writer; reads go on;
// when there is room again everything is as if the refused writes had never been.
func TestADiskThatIsFull(t *testing.T) {
	folder := t.TempDir()
	n := runOn(t, folder)
	p := n.adminPeer(t)
	p.appended("s", expectAny, "a")
	p.metadata("s", `{"$maxCount":10}`)
	open := p.start("tx", expectAny)
	p.addTo(open, "x")
	require.NoError(t, n.WaitForProjections(t.Context()))
	c := n.commits(t)
	full := func(func() error) error { return errors.New("no space left on device") }
	c.commit.Store(&full)
	before := n.store.Tip()
	refused := func(r messages.Request) {
		t.Helper()
		a := p.call(r, "admin", "changeit")
		require.Equal(t, messages.BadRequest, a.command)
		require.Equal(t, textNotStored, string(a.body))
	}
	for range 3 {
		refused(&messages.Append{Stream: "s", Expected: expectAny, Events: events("b")})
		refused(&messages.Append{Stream: "$$s", Expected: expectAny, Events: []messages.NewEvent{
			{ID: eventID("hide"), Type: typeMetadata, ContentType: 1, Data: []byte(`{"$tb":9223372036854775807}`)},
		}})
		hard := true
		stream, version := "s", expectAny
		refused(messages.Of(messages.DeleteStream, &pb.DeleteStream{EventStreamId: &stream, ExpectedVersion: &version, HardDelete: &hard}))
		refused(messages.Of(messages.TransactionCommit, &pb.TransactionCommit{TransactionId: &open}))
	}
	require.Equal(t, pb.ScavengeDatabaseCompleted_Failed, p.scavenge("admin", "changeit").GetResult())
	require.Equal(t, groupFail, managed(func(done groupDone) { n.groups.create(adminUser, usualGroup("s"), done) }).result)
	require.NotEqual(t, userSuccess, n.createUser(administrator, "u", "U", "pw", nil))
	require.Equal(t, []int64{0}, p.forward("s", 0, 9).numbers)
	require.Equal(t, before, n.store.Tip())

	c.commit.Store(nil)
	require.EqualValues(t, 1, p.appended("s", 0, "b").First, "its number was not used")
	require.EqualValues(t, 2, p.appended("s", expectAny, "c").First)
	require.Equal(t, []int64{0, 1, 2}, p.forward("s", 0, 9).numbers)
	var m pb.TransactionCommitCompleted
	p.call(messages.Of(messages.TransactionCommit, &pb.TransactionCommit{TransactionId: &open})).into(t, &m)
	require.Equal(t, messages.AccessDenied, m.GetResult(), "what it held is not known any more")
	require.Equal(t, pb.ScavengeDatabaseCompleted_Success, p.scavenge("admin", "changeit").GetResult())
	log := n.everything(t)
	n = n.restarted(t, folder)
	require.Equal(t, log, n.everything(t)[:len(log)])
}

// TestLinksComeWhenThereIsRoom: the projections try again.
func TestLinksComeWhenThereIsRoom(t *testing.T) {
	n := runOn(t, t.TempDir())
	p := n.peer(t)
	c := n.commits(t)
	require.NoError(t, n.WaitForProjections(t.Context()))
	var count atomic.Int64
	failed := make(chan struct{})
	second := func(commit func() error) error {
		if count.Add(1) == 2 { // the links
			close(failed)
			return errors.New("no space left on device")
		}
		return commit()
	}
	c.commit.Store(&second)
	p.appended("a-1", expectAny, "ab")
	<-failed
	require.NoError(t, n.WaitForProjections(t.Context()))
	require.Equal(t, []string{"0@a-1", "1@a-1"}, data(n.readIndexes(t)["$ce-a"]))
	require.NoError(t, n.WaitForProjections(t.Context()), "they have passed their own links")
	require.True(t, strings.HasPrefix(fmt.Sprint(n.projector.states()[0].progress), "100"))
}
