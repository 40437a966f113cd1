package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/kills"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// A process with a server on disk is killed again and again while it is written to: every acknowledged event is there, once, in
// its order and with its number, and every other append is wholly there or not at all. KILLS says how often, SEED when; a seed
// fixes the plan, not what the processes do meanwhile.
func TestKilledServersKeepWhatTheyAcknowledged(t *testing.T) {
	plan := kills.Make(t, 10)
	k := newKilling(t, plan, correctStore)
	for range plan.Kills {
		require.NoError(t, k.round(t))
	}
	for more := 0; plan.Kills >= 10 && more < 5 && (k.checkpoint < 1 || k.parked < 1); more++ { // the machine is slow: its servers live longer
		k.longest *= 2
		require.NoError(t, k.round(t))
	}
	require.NoError(t, k.finish(t))
	t.Logf("seed %d: %d kills, %d of them under load; %d events, %d of appends that were not acknowledged; checkpoint %d, %d parked",
		plan.Seed, plan.Kills, k.loaded, k.events, k.unacknowledged, k.checkpoint, k.parked)
	require.Positive(t, k.events)
	if plan.Kills >= 10 {
		require.Positive(t, k.checkpoint)
		require.Positive(t, k.parked)
	}
}

// The checker sees what it looks for: a store that says that it has committed before it has is found out.
func TestAServerThatAcknowledgesEarlyIsCaught(t *testing.T) {
	const enough = 100
	plan := kills.Make(t, enough)
	plan.Kills = enough
	k := newKilling(t, plan, earlyStore)
	for kills := range enough {
		if err := k.round(t); err != nil {
			require.ErrorContains(t, err, "acknowledged")
			t.Logf("seed %d: caught after %d kills: %v", plan.Seed, kills, err)
			return
		}
	}
	t.Errorf("not caught by %d kills", enough)
}

// servedVariable has the test's program be a server, of this kind and with the log in the folder of its argument.
const (
	servedVariable = "EVENTSTORE_TEST_SERVED"
	correctStore   = "correct"
	earlyStore     = "early"
	smallStore     = "small" // its file may not grow until it is told "room"
)

// early is a store that commits now and then, and says that it does so each time.
type early struct {
	store.Store
	commits int
}

func (e *early) Commit() error {
	if e.commits++; e.commits%20 != 0 {
		return nil
	}
	return e.Store.Commit()
}

// serveFolder is what the test's program does as a server: it says where it is, and ends with its input.
func serveFolder(kind, folder string) error {
	if kind == smallStore {
		if err := limitFiles(smallFile); err != nil {
			return err
		}
	}
	s, err := Start(Config{DB: folder, HTTP: Off, Projections: kind == correctStore})
	if err != nil {
		return err
	}
	if kind == earlyStore {
		s.writer.store = &early{Store: s.writer.store} // nobody knows the address yet
	}
	fmt.Println(s.listener.Addr())
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if err := limitFiles(1 << 40); err != nil {
			return errors.Join(err, s.Close())
		}
		fmt.Println("there is room")
	}
	return s.Close()
}

// served is a process with a server.
type served struct {
	*exec.Cmd
	addr   string
	stderr bytes.Buffer
	lines  *bufio.Scanner
	in     io.WriteCloser // its end ends the server
}

func startServed(ctx context.Context, t *testing.T, kind, folder string) *served {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	p := &served{Cmd: exec.CommandContext(ctx, program, folder)}
	p.Env = append(os.Environ(), servedVariable+"="+kind)
	p.Stderr = &p.stderr
	p.WaitDelay = 5 * time.Second
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	in, err := p.StdinPipe() // its end, which comes with ours, ends the server
	require.NoError(t, err)
	if err := p.Start(); ctx.Err() == nil { // else it was to be killed before it began
		require.NoError(t, err)
	}
	p.in, p.lines = in, bufio.NewScanner(out)
	if p.lines.Scan() {
		p.addr = p.lines.Text()
	}
	return p
}

// killing is what a kill test stands on.
type killing struct {
	kind    string
	random  *rand.Rand
	ctx     context.Context //nolint:containedctx // of one test, which made it: the guard against hangs
	folder  string
	longest time.Duration // that a server lives, about
	streams []*killedStream

	loaded, events, unacknowledged int

	// What was read of the group, and has to be there ever after.
	checkpoint, parked int64
}

// killedStream is a stream with what was sent to it since it was looked at.
type killedStream struct {
	name    string
	checked int64 // events that are known to be right
	sent    []killedAppend
}

type killedAppend struct {
	ids   []uuid.UUID
	acked bool
	first int64
}

const (
	killedStreams = 4
	killedWindow  = 64
	killedParks   = 7 // every so many messages one is parked
)

func newKilling(t *testing.T, plan kills.Plan, kind string) *killing {
	t.Helper()
	k := &killing{kind: kind, random: plan.Random, folder: t.TempDir(), longest: 150 * time.Millisecond, checkpoint: -1}
	for i := range killedStreams {
		k.streams = append(k.streams, &killedStream{name: fmt.Sprint("killed-", i)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Duration(plan.Kills)*2*time.Second)
	t.Cleanup(cancel)
	k.ctx = ctx
	return k
}

// round starts a server, checks what it has, and kills it under load, or while it starts.
func (k *killing) round(t *testing.T) error {
	t.Helper()
	pause := time.Duration(k.random.Int64N(int64(k.longest)))
	if k.random.IntN(6) == 0 {
		p := k.startAndKill(t, pause/3)
		require.Equal(t, -1, p.ProcessState.ExitCode(), "it ended by itself: %s", &p.stderr)
		return nil
	}
	p := startServed(k.ctx, t, k.kind, k.folder)
	defer func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	}()
	require.NotEmpty(t, p.addr, "it did not start: %s", &p.stderr)
	if err := k.check(p.addr); err != nil {
		return err
	}
	k.loaded++
	var load sync.WaitGroup
	for _, s := range k.streams {
		seed := k.random.Uint64()
		load.Go(func() { s.write(p.addr, rand.New(rand.NewPCG(seed, 1))) })
	}
	failed := make(chan error, 1)
	load.Go(func() { failed <- k.consume(p.addr) })
	time.AfterFunc(pause, func() { _ = p.Process.Kill() })
	load.Wait()
	return <-failed
}

// startAndKill kills a server while it starts, or just behind that.
func (k *killing) startAndKill(t *testing.T, pause time.Duration) *served {
	t.Helper()
	ctx, cancel := context.WithTimeout(k.ctx, pause)
	defer cancel()
	p := startServed(ctx, t, k.kind, k.folder)
	_ = p.Wait()
	return p
}

// finish has a last server tell everything.
func (k *killing) finish(t *testing.T) error {
	t.Helper()
	p := startServed(k.ctx, t, k.kind, k.folder)
	require.NotEmpty(t, p.addr, "it did not start: %s", &p.stderr)
	if err := k.check(p.addr); err != nil {
		return err
	}
	c, err := dialKilled(p.addr)
	if err != nil {
		return err
	}
	for _, s := range k.streams {
		seen := make(map[uuid.UUID]bool)
		ids, err := c.ids(s.name, 0)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if seen[id] {
				return fmt.Errorf("%s has %s twice", s.name, id)
			}
			seen[id] = true
		}
		if int64(len(ids)) != s.checked {
			return fmt.Errorf("%s has %d events, and had %d", s.name, len(ids), s.checked)
		}
	}
	_ = c.Close()
	_ = p.in.Close()
	require.NoError(t, p.Wait(), "%s", &p.stderr)
	return nil
}

// check looks at what a server has after a restart.
func (k *killing) check(addr string) error {
	c, err := dialKilled(addr)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for _, s := range k.streams {
		more, unacknowledged, err := s.check(c)
		if err != nil {
			return err
		}
		k.events += more
		k.unacknowledged += unacknowledged
	}
	return k.look(c)
}

// check finds every append that was sent to a stream, whole or not at all.
func (s *killedStream) check(c *killedConn) (events, unacknowledged int, err error) {
	ids, err := c.ids(s.name, s.checked)
	if err != nil {
		return 0, 0, err
	}
	events = len(ids)
	ended := false
	for i, a := range s.sent {
		there := 0
		for there < min(len(a.ids), len(ids)) && ids[there] == a.ids[there] {
			there++
		}
		switch {
		case a.acked && (there < len(a.ids) || a.first != s.checked):
			return 0, 0, fmt.Errorf("%s: append %d of %d was acknowledged as %d and is not there: %d of its %d events are at %d",
				s.name, i, len(s.sent), a.first, there, len(a.ids), s.checked)
		case there > 0 && there < len(a.ids):
			return 0, 0, fmt.Errorf("%s: %d of %d events of append %d are there", s.name, there, len(a.ids), i)
		case there > 0 && ended:
			return 0, 0, fmt.Errorf("%s: append %d is there, and one before it is not", s.name, i)
		case there == 0:
			ended = true
			continue
		}
		if !a.acked {
			unacknowledged += there
		}
		s.checked += int64(there)
		ids = ids[there:]
	}
	if len(ids) > 0 {
		return 0, 0, fmt.Errorf("%s: at %d are %d events that nobody sent there", s.name, s.checked, len(ids))
	}
	s.sent = nil
	return events, unacknowledged, nil
}

// look sees that the group's checkpoint and its parked messages are not less than before.
func (k *killing) look(c *killedConn) error {
	of := "$persistentsubscription-" + k.streams[0].name + "::g-"
	checkpoint, _, err := c.lastOf(of + "checkpoint")
	if err != nil {
		return err
	}
	_, parked, err := c.lastOf(of + "parked")
	if err != nil {
		return err
	}
	if checkpoint < k.checkpoint || parked+1 < k.parked {
		return fmt.Errorf("the group has the checkpoint %d and %d parked messages, and had %d and %d", checkpoint, parked+1, k.checkpoint, k.parked)
	}
	k.checkpoint, k.parked = checkpoint, parked+1
	return nil
}

// write sends appends until the server is gone, and notes which were acknowledged.
func (s *killedStream) write(addr string, random *rand.Rand) {
	c, err := dialKilled(addr)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	for answered := 0; ; {
		for len(s.sent)-answered < killedWindow {
			m := messages.Append{Stream: s.name, Expected: expectAny}
			var a killedAppend
			for range 1 + random.IntN(5) {
				id := uuid.New()
				a.ids = append(a.ids, id)
				m.Events = append(m.Events, messages.NewEvent{ID: id, Type: "t", Data: make([]byte, random.IntN(2000))})
			}
			s.sent = append(s.sent, a)
			if c.send(&m) != nil {
				return
			}
		}
		f, err := c.next()
		if err != nil {
			return
		}
		var done messages.AppendCompleted
		if f.Command != messages.WriteEventsCompleted || done.Decode(f.Body) != nil || done.Result != messages.Success {
			return // what is not acknowledged may be there or not
		}
		s.sent[answered].acked, s.sent[answered].first = true, done.First
		answered++
	}
}

// consume takes part in a group, acks and parks, and reads what the group has stored, until the server is gone.
func (k *killing) consume(addr string) error {
	c, err := dialKilled(addr)
	if err != nil {
		return nil
	}
	defer func() { _ = c.Close() }()
	stream, group, window := k.streams[0].name, "g", int32(50)
	if c.send(messages.Of(messages.CreatePersistentSubscription, killedGroup(stream, group)), "admin", "changeit") != nil {
		return nil
	}
	if _, err := c.next(); err != nil { // it is made, or was there
		return nil
	}
	if c.send(messages.Of(messages.ConnectToPersistentSubscription, &pb.ConnectToPersistentSubscription{
		SubscriptionId: &group, EventStreamId: &stream, AllowedInFlightMessages: &window,
	})) != nil {
		return nil
	}
	id := c.lastID
	looking, err := dialKilled(addr)
	if err != nil {
		return nil
	}
	defer func() { _ = looking.Close() }()
	for n := 0; ; n++ {
		f, err := c.next()
		if err != nil {
			return nil
		}
		var e pb.PersistentSubscriptionStreamEventAppeared
		if f.Command != messages.PersistentSubscriptionStreamEventAppeared {
			continue
		}
		if err := (messages.Reply{Command: f.Command, Body: f.Body}).Unmarshal(&e); err != nil {
			return err
		}
		key, ids := stream+"::"+group, [][]byte{e.GetEvent().GetEvent().GetEventId()}
		answer := messages.Of(messages.PersistentSubscriptionAckEvents,
			&pb.PersistentSubscriptionAckEvents{SubscriptionId: &key, ProcessedEventIds: ids})
		if n%killedParks == killedParks-1 {
			answer = messages.Of(messages.PersistentSubscriptionNakEvents, &pb.PersistentSubscriptionNakEvents{
				SubscriptionId: &key, ProcessedEventIds: ids, Action: pb.PersistentSubscriptionNakEvents_Park.Enum(),
			})
		}
		if c.sendAs(id, answer) != nil {
			return nil
		}
		if n%50 == 49 {
			if err := k.look(looking); err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
	}
}

func killedGroup(stream, group string) *pb.CreatePersistentSubscription {
	no, few, many, times, strategy := false, int32(1), int32(1000), int32(10), "RoundRobin"
	timeout := int32(30_000)
	return &pb.CreatePersistentSubscription{
		EventStreamId: &stream, SubscriptionGroupName: &group, ResolveLinkTos: &no, StartFrom: new(int64),
		MessageTimeoutMilliseconds: &timeout, RecordStatistics: &no, LiveBufferSize: &many, ReadBatchSize: &times, BufferSize: &many,
		MaxRetryCount: &times, PreferRoundRobin: &no, CheckpointAfterTime: &few, CheckpointMaxCount: &times, CheckpointMinCount: &few,
		SubscriberMaxCount: new(int32), NamedConsumerStrategy: &strategy,
	}
}

// killedConn is a connection to a process that may end at any moment.
type killedConn struct {
	net.Conn
	reader *messages.Reader
	count  uint64
	lastID messages.ID
}

// errGone says that the server was killed.
var errGone = errors.New("the server is gone")

func dialKilled(addr string) (*killedConn, error) {
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	c := &killedConn{Conn: conn, reader: messages.NewReader(conn, 64<<10)}
	version := int32(1)
	if err := c.send(messages.Of(messages.IdentifyClient, &pb.IdentifyClient{Version: &version})); err != nil {
		return nil, err
	}
	_, err = c.next()
	return c, err
}

func (c *killedConn) send(r messages.Request, credentials ...string) error {
	c.count++
	var id messages.ID
	binary.BigEndian.PutUint64(id[8:], c.count)
	c.lastID = id
	return c.sendAs(id, r, credentials...)
}

func (c *killedConn) sendAs(id messages.ID, r messages.Request, credentials ...string) error {
	var block []byte
	for _, s := range credentials {
		block = append(append(block, byte(len(s))), s...)
	}
	b, err := messages.AppendFrame(nil, id, block, r)
	if err != nil {
		return err
	}
	if _, err := c.Write(b); err != nil {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return nil
}

// next returns the next frame that is no heartbeat.
func (c *killedConn) next() (messages.Frame, error) {
	for {
		f, err := c.reader.Next()
		if err != nil {
			return f, fmt.Errorf("%w: %w", errGone, err)
		}
		if f.Command != messages.HeartbeatRequest {
			return f, nil
		}
		if err := c.sendAs(f.ID, messages.Raw(messages.HeartbeatResponse, nil)); err != nil {
			return f, err
		}
	}
}

// ids returns those of the events of a stream from a number on, which follow each other.
func (c *killedConn) ids(stream string, from int64) (ids []uuid.UUID, err error) {
	for {
		if err := c.send(&messages.StreamRead{Stream: stream, From: from, Count: 1000}); err != nil {
			return nil, err
		}
		f, err := c.next()
		if err != nil {
			return nil, err
		}
		var p messages.StreamPage
		if err := p.Decode(f.Body); err != nil || f.Command != messages.ReadStreamEventsForwardCompleted {
			return nil, fmt.Errorf("%s %w", f.Command, err)
		}
		if p.Result == messages.ReadStreamNoStream && from == 0 {
			return nil, nil
		}
		if p.Result != messages.ReadStreamSuccess {
			return nil, fmt.Errorf("%s from %d: %v %s", stream, from, p.Result, p.Error)
		}
		wrong := error(nil)
		err = p.Each(nil, func(e *messages.ResolvedEvent) bool {
			if e.Event.Number != from {
				wrong = fmt.Errorf("%s has %d in the place of %d", stream, e.Event.Number, from)
			}
			ids = append(ids, e.Event.ID)
			from++
			return wrong == nil
		})
		if err = errors.Join(err, wrong); err != nil || p.EndOfStream {
			return ids, err
		}
	}
}

// lastOf returns the number that the last event of a stream holds, and its own; -1 without one.
func (c *killedConn) lastOf(stream string) (held, number int64, err error) {
	if err := c.send(&messages.EventRead{Stream: stream, Number: -1}, "admin", "changeit"); err != nil {
		return -1, -1, err
	}
	f, err := c.next()
	if err != nil {
		return -1, -1, err
	}
	var m messages.EventReadCompleted
	if err := m.Decode(f.Body, nil); err != nil || f.Command != messages.ReadEventCompleted {
		return -1, -1, fmt.Errorf("%s %w", f.Command, err)
	}
	if m.Result == messages.ReadEventNoStream {
		return -1, -1, nil
	}
	if m.Result != messages.ReadEventSuccess {
		return -1, -1, fmt.Errorf("the last of %s: %v %s", stream, m.Result, m.Error)
	}
	held, _ = strconv.ParseInt(strings.TrimSpace(string(m.Event.Event.Data)), 10, 64)
	return held, m.Event.Event.Number, nil
}
