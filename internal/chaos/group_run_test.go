package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/subscription"
)

// membership is what the tests use of a group's member. The one that is broken on purpose has it too.
type membership interface {
	Recv(ctx context.Context) (*persistent.Message, error)
	Ack(ctx context.Context, m ...*persistent.Message) error
	Nack(ctx context.Context, a persistent.Action, reason string, m ...*persistent.Message) error
	RetryAfter(ctx context.Context, d time.Duration, reason string, m ...*persistent.Message) error
	Close() error
}

// joiner makes the member under test.
type joiner func(ctx context.Context, c *eventstore.Client, cfg persistent.Config) (membership, error)

func joinReal(ctx context.Context, c *eventstore.Client, cfg persistent.Config) (membership, error) {
	return persistent.Join(ctx, c, cfg)
}

// groupRun is a run of a plan, and what was seen of it.
type groupRun struct {
	*groupPlan
	t       *testing.T
	srv     *eventstoretest.Server
	wire    *wire
	join    joiner
	sound   *eventstore.Client // past the faults
	admin   *admin.Admin       // nil when the server's HTTP side is not known
	real    bool
	main    string                       // the stream of the groups
	keys    map[uuid.UUID]int64          // the numbers of its events by their ids
	about   map[string]int64             // likewise, by what they link to, as number@stream
	ids     []uuid.UUID                  // of its events
	links   []string                     // what they link to
	by      []int                        // their correlations
	written []time.Duration              // when
	crew    sync.WaitGroup               // the workers
	lines   map[string]*faultnet.Network // of the workers

	mu       sync.Mutex // guards what follows
	acts     []act
	got      []receipt
	parked   []parkedEntry
	places   []place
	renewals []renewal
	lost     map[*member]bool // of which the client said so
	problems []string
}

// act is an answer that a worker gave, and that was taken.
type act struct {
	at    time.Duration
	m     *member
	id    uuid.UUID
	verb  verb
	delay time.Duration // after which it is sent, at the latest
}

// receipt is a message that a worker was given.
type receipt struct {
	m       *member
	id      uuid.UUID
	retries int
}

// parkedEntry is an event of a parked stream.
type parkedEntry struct {
	at     time.Duration
	group  string
	about  string // what it links to, as number@stream
	number int64  // of the event of the main stream, set by check
	reason string
}

// place is a checkpoint that was written.
type place struct {
	at     time.Duration
	group  string
	number int64
}

// renewal is the beginning of a group's life, or of the next one: by its creation, an update or a restart.
type renewal struct {
	from, to   time.Duration
	group      string
	settings   persistent.Settings
	checkpoint int64 // -1 for none
	fresh      bool  // it was created
}

func (r *groupRun) problem(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Sprintf("%v ", r.wire.now())+fmt.Sprintf(format, args...))
}

func (r *groupRun) parkedStream(group string) string { return admin.ParkedStream(r.main, group) }

func (r *groupRun) checkpointStream(group string) string {
	return "$persistentsubscription-" + r.main + "::" + group + "-checkpoint"
}

// start is the server with its wire, in memory unless the environment's is wanted.
func (p *groupPlan) start(t *testing.T, network eventstoretest.Network, mangle mangle, join joiner, opts ...eventstoretest.Option) *groupRun {
	t.Helper()
	w := newWire(network, mangle)
	srv := eventstoretest.Run(t, append(opts, eventstoretest.OnNetwork(w))...)
	direct, err := url.Parse(srv.DirectURL())
	require.NoError(t, err)
	w.listenTo(direct.Host)
	r := &groupRun{
		groupPlan: p, t: t, srv: srv, wire: w, join: join, real: !srv.Embedded(), main: "main-" + uuid.NewString()[:8],
		keys: make(map[uuid.UUID]int64), about: make(map[string]int64), lines: make(map[string]*faultnet.Network), lost: make(map[*member]bool),
	}
	if srv.HTTPURL() != "" {
		at, err := url.Parse(srv.HTTPURL())
		require.NoError(t, err)
		at.User = direct.User
		r.admin, err = admin.New(at.String(), eventstore.WithDialer(srv.Dial))
		require.NoError(t, err)
	}
	r.sound, err = eventstore.Connect(t.Context(), srv.DirectURL(), eventstore.WithDialer(srv.Dial), eventstore.WithName("manager"))
	require.NoError(t, err)
	return r
}

// play runs the plan to its end, and returns when nobody holds a message any more.
func (r *groupRun) play() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	defer func() { require.NoError(r.t, r.sound.Close()) }()
	if r.real { // which is shared
		defer r.forget()
	}
	for i, g := range r.groups {
		r.create(ctx, i, g.settings)
	}
	var logs sync.WaitGroup
	for _, g := range r.groups {
		logs.Go(func() {
			r.follow(ctx, r.parkedStream(g.name), func(e eventstore.ResolvedEvent) { r.sawParked(g.name, e) })
		})
		logs.Go(func() {
			r.follow(ctx, r.checkpointStream(g.name), func(e eventstore.ResolvedEvent) { r.sawPlace(g.name, e) })
		})
	}
	defer logs.Wait()
	defer cancel()
	working, stop := context.WithDeadline(ctx, r.wire.begun.Add(r.horizon))
	defer stop()
	for i, w := range r.workers {
		line := faultnet.New(r.srv, faultnet.Random(r.seed<<8|uint64(i), w.faults))
		r.lines[w.name] = line
		r.crew.Go(func() { r.work(working, i, line) })
	}
	for _, d := range r.deeds {
		time.Sleep(max(time.Until(r.wire.begun.Add(d.at)), 10003*time.Microsecond)) // never two in one instant, if one took long
		r.do(ctx, d)
	}
	r.crew.Wait()
	var drainers sync.WaitGroup
	for i := range r.groups {
		drainers.Go(func() { r.drain(ctx, i) })
	}
	drainers.Wait()
}

// settings of a group, as it is now.
func (r *groupRun) settings(group string) persistent.Settings {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s persistent.Settings
	for _, n := range r.renewals {
		if n.group == group {
			s = n.settings
		}
	}
	return s
}

func (r *groupRun) create(ctx context.Context, i int, s persistent.Settings) {
	r.t.Helper()
	n := renewal{from: r.wire.now(), group: r.groups[i].name, settings: s, checkpoint: -1, fresh: true}
	err := persistent.Create(ctx, r.sound, r.main, n.group, s)
	if refused := new(eventstore.ServerError); r.real && errors.As(err, &refused) && s.Strategy == persistent.PinnedByCorrelation {
		n.settings.Strategy = persistent.Pinned // as old as that
		err = persistent.Create(ctx, r.sound, r.main, n.group, n.settings)
	}
	require.NoError(r.t, err)
	r.renewed(n)
}

// forget leaves no group behind.
func (r *groupRun) forget() {
	for _, g := range r.groups {
		_ = persistent.Delete(r.t.Context(), r.sound, r.main, g.name) // it may not have been created again
	}
}

func (r *groupRun) update(ctx context.Context, i int, s persistent.Settings) {
	r.t.Helper()
	n := renewal{from: r.wire.now(), group: r.groups[i].name, settings: s, checkpoint: -1}
	e, err := r.sound.ReadEvent(ctx, r.checkpointStream(n.group), eventstore.End)
	if !errors.Is(err, eventstore.ErrStreamNotFound) {
		require.NoError(r.t, err)
		n.checkpoint, err = strconv.ParseInt(string(e.Event.Data), 10, 64)
		require.NoError(r.t, err)
	}
	err = persistent.Update(ctx, r.sound, r.main, n.group, s)
	if refused := new(eventstore.ServerError); r.real && errors.As(err, &refused) && s.Strategy == persistent.PinnedByCorrelation {
		n.settings.Strategy = persistent.Pinned
		err = persistent.Update(ctx, r.sound, r.main, n.group, n.settings)
	}
	require.NoError(r.t, err)
	r.renewed(n)
}

func (r *groupRun) renewed(n renewal) {
	n.to = r.wire.now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.renewals = append(r.renewals, n)
}

// do does what the plan says.
func (r *groupRun) do(ctx context.Context, d deed) {
	r.t.Helper()
	group := r.groups[d.group].name
	switch d.kind {
	case appendEvents:
		r.write(ctx, d.count)
	case updateGroup:
		r.update(ctx, d.group, d.settings)
	case renewGroup:
		require.NoError(r.t, persistent.Delete(ctx, r.sound, r.main, group))
		time.Sleep(d.pause)
		r.create(ctx, d.group, d.settings)
	case replayParked:
		if r.admin != nil && !r.real { // what a real server replays and is not acked, an update loses
			require.NoError(r.t, r.admin.ReplayParked(ctx, r.main, group))
		}
	case cutLines:
		r.srv.Cut()
	case restart:
		r.restart(ctx, d.pause)
	}
}

// restart does what clients see of a server that starts anew: nobody answers for a while, then whatever has credentials is dropped
// until the users are known, and groups go on behind their checkpoints, which is what an update has them do. The embedded
// server keeps its log in memory, so that a real end would be that of the log too.
func (r *groupRun) restart(ctx context.Context, down time.Duration) {
	r.t.Helper()
	r.srv.Refuse()
	r.srv.Cut()
	time.Sleep(time.Millisecond) // or an answer that just made it would seem to be of the life that begins here
	for i, g := range r.groups {
		r.update(ctx, i, r.settings(g.name))
	}
	time.Sleep(down)
	up := time.Now()
	remove := r.srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		if !f.FromServer && f.Login != "" && time.Since(up) < 1400*time.Millisecond {
			return eventstoretest.Drop
		}
		return eventstoretest.Pass
	})
	r.t.Cleanup(remove)
	r.srv.Accept()
}

// write appends events, and then the links to them.
func (r *groupRun) write(ctx context.Context, n int) {
	r.t.Helper()
	rnd := rand.New(rand.NewPCG(r.seed, uint64(len(r.ids))+77))
	bySource := make(map[string][]eventstore.EventData)
	var links []eventstore.EventData
	for range n {
		source := fmt.Sprintf("%s-%d", r.main, rnd.IntN(sources))
		number := len(bySource[source])
		for _, link := range r.links[:len(r.links)-len(links)] {
			if strings.HasSuffix(link, "@"+source) {
				number++
			}
		}
		by := rnd.IntN(correlations)
		bySource[source] = append(bySource[source], eventstore.EventData{
			ID: uuid.New(), Type: "happened", JSON: true, Data: []byte("{}"), Metadata: fmt.Appendf(nil, `{"$correlationId":"c%d"}`, by),
		})
		link := eventstore.EventData{ID: uuid.New(), Type: "$>", Data: fmt.Appendf(nil, "%d@%s", number, source)}
		r.keys[link.ID], r.about[string(link.Data)] = int64(len(r.ids)), int64(len(r.ids))
		r.ids, r.links, r.by = append(r.ids, link.ID), append(r.links, string(link.Data)), append(r.by, by)
		r.written = append(r.written, r.wire.now())
		links = append(links, link)
	}
	for source, events := range bySource {
		_, err := r.sound.Append(ctx, source, eventstore.Any, events)
		require.NoError(r.t, err)
	}
	if n > 0 {
		_, err := r.sound.Append(ctx, r.main, eventstore.Any, links)
		require.NoError(r.t, err)
	}
}

// numberOf is the number in the main stream of what something is about: an event of it, or what that links to; -1 for neither.
func (r *groupRun) numberOf(stream string, number int64) int64 {
	if stream == r.main {
		return number
	}
	if n, ok := r.about[fmt.Sprintf("%d@%s", number, stream)]; ok {
		return n
	}
	return -1
}

// follow tells of what a group writes.
func (r *groupRun) follow(ctx context.Context, stream string, each func(eventstore.ResolvedEvent)) {
	sub, err := subscription.Open(ctx, r.sound, subscription.Config{Stream: stream, RawLinks: true})
	if err != nil {
		if ctx.Err() == nil {
			r.problem("follow %s: %v", stream, err)
		}
		return
	}
	defer func() { _ = sub.Close() }()
	for {
		e, err := sub.Recv(ctx)
		if err != nil {
			if ctx.Err() == nil {
				r.problem("follow %s: %v", stream, err)
			}
			return
		}
		each(e)
	}
}

func (r *groupRun) sawParked(group string, e eventstore.ResolvedEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked = append(r.parked, parkedEntry{at: r.wire.now(), group: group, about: string(e.Event.Data), reason: string(e.Event.Metadata)})
}

func (r *groupRun) sawPlace(group string, e eventstore.ResolvedEvent) {
	number, err := strconv.ParseInt(string(e.Event.Data), 10, 64)
	if err != nil {
		r.problem("the checkpoint of %s is %q", group, e.Event.Data)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.places = append(r.places, place{r.wire.now(), group, number})
}

// work has a worker come, work, crash or leave, and come again.
func (r *groupRun) work(ctx context.Context, i int, line *faultnet.Network) {
	planned := r.workers[i]
	rnd := rand.New(rand.NewPCG(r.seed, uint64(i)+1000))
	for life := 1; ctx.Err() == nil; life++ {
		name := fmt.Sprintf("%s.%d", planned.name, life)
		lasts := upTo(rnd, 20*time.Second) + time.Second
		c, err := eventstore.Connect(ctx, r.srv.URL(), eventstore.WithDialer(line.Dial), eventstore.WithName(name))
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		alive, end := context.WithTimeout(ctx, lasts)
		crash := func() {
			_ = c.Close()
			end()
		}
		var joined sync.WaitGroup
		for _, g := range planned.groups {
			cfg := planned.cfg
			cfg.Stream, cfg.Group = r.main, r.groups[g].name
			habits := rand.New(rand.NewPCG(rnd.Uint64(), uint64(g)))
			joined.Go(func() { r.live(alive, c, name, cfg, habits, crash) })
		}
		joined.Wait()
		end()
		_ = c.Close()
		time.Sleep(upTo(rnd, time.Second))
	}
}

// live is one membership as the worker has it, over all its joinings.
func (r *groupRun) live(ctx context.Context, c *eventstore.Client, name string, cfg persistent.Config, habits *rand.Rand, crash func()) {
	timeout := r.settings(cfg.Group).MessageTimeout
	if timeout == persistent.Never {
		timeout = 5 * time.Second
	}
	cfg.MessageTimeout = timeout
	var now *member // set by Join and Recv
	cfg.OnNotice = func(n persistent.Notice) { r.noticed(n, name, &now) }
	for ctx.Err() == nil {
		g, err := r.join(ctx, c, cfg)
		if err == nil {
			var work sync.WaitGroup
			err = r.receive(ctx, g, &now, &work, timeout, habits, crash)
			_ = g.Close() // its error says that acks may be lost
			work.Wait()
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, eventstore.ErrClosed):
			return
		case errors.Is(err, persistent.ErrGroupNotFound), errors.Is(err, persistent.ErrTooManySubscribers):
			time.Sleep(300 * time.Millisecond)
		default:
			r.problem("%s in %s: %v", name, cfg.Group, err)
			return
		}
	}
}

func (r *groupRun) receive(ctx context.Context, g membership, now **member, work *sync.WaitGroup, timeout time.Duration, habits *rand.Rand, crash func()) error {
	for {
		m, err := g.Recv(ctx)
		if err != nil {
			return err
		}
		r.received(*now, m)
		h := handle(habits, timeout)
		switch h.habit {
		case forgets:
		case crashes:
			crash()
		case holdsBack:
			if h.wait < timeout {
				r.answer(ctx, g, *now, m, h)
			}
		case acksAtOnce:
			h.wait = 0
			r.answer(ctx, g, *now, m, h)
		case acksTwice:
			h.wait = 0
			r.answer(ctx, g, *now, m, h)
			if err := g.Ack(ctx, m); !errors.Is(err, persistent.ErrStale) {
				r.problem("the second ack of a message: %v", err)
			}
		default:
			if h.wait == 0 {
				r.answer(ctx, g, *now, m, h)
				continue
			}
			joined := *now
			work.Go(func() {
				time.Sleep(h.wait)
				h.wait = 0
				r.answer(ctx, g, joined, m, h)
			})
		}
	}
}

// noticed keeps up with which membership a client has: the one that it asked for last, when it says that it has joined.
func (r *groupRun) noticed(n persistent.Notice, client string, now **member) {
	switch n.Kind {
	case persistent.Joined, persistent.Rejoined:
		*now = r.wire.current(client, n.Group)
	case persistent.Lost:
		r.mu.Lock()
		r.lost[*now] = true
		r.mu.Unlock()
	default:
	}
}

func (r *groupRun) received(now *member, m *persistent.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, receipt{now, m.Original().ID, m.Retries})
}

// answer gives one answer, and writes it down if it was taken.
func (r *groupRun) answer(ctx context.Context, g membership, now *member, m *persistent.Message, h handling) {
	a := act{at: r.wire.now(), m: now, id: m.Original().ID, verb: h.verb, delay: h.wait}
	var err error
	switch h.verb {
	case acked:
		err = g.Ack(ctx, m)
	case retries:
		err = g.RetryAfter(ctx, h.wait, "again", m)
	case parks:
		err = g.Nack(ctx, persistent.Park, "later", m)
	case skips:
		err = g.Nack(ctx, persistent.Skip, "never mind", m)
	case stops:
		err = g.Nack(ctx, persistent.Stop, "stop", m)
	}
	switch {
	case err == nil:
		r.mu.Lock()
		r.acts = append(r.acts, a)
		r.mu.Unlock()
	case !errors.Is(err, persistent.ErrStale):
		r.problem("%s: %v", h.verb, err)
	}
}

// drain has a worker finish everything on a sound line, what is parked too, until nothing comes any more.
func (r *groupRun) drain(ctx context.Context, i int) {
	name := "drainer-" + r.groups[i].name
	c, err := eventstore.Connect(ctx, r.srv.URL(), eventstore.WithDialer(r.srv.Dial), eventstore.WithName(name))
	if err != nil {
		r.problem("%s: %v", name, err)
		return
	}
	defer func() { _ = c.Close() }()
	var now *member
	g, err := r.join(ctx, c, persistent.Config{
		Stream: r.main, Group: r.groups[i].name, Window: 20,
		OnNotice: func(n persistent.Notice) { r.noticed(n, name, &now) },
	})
	if err != nil {
		r.problem("%s: %v", name, err)
		return
	}
	idle := 3*time.Second + max(r.settings(r.groups[i].name).MessageTimeout, 0)
	for replayed := false; ; replayed = true {
		if err = r.takeAll(ctx, g, &now, idle); err != nil || replayed || r.admin == nil {
			break
		}
		if err = r.admin.ReplayParked(ctx, r.main, r.groups[i].name); err != nil {
			break
		}
	}
	if err != nil {
		r.problem("%s: %v", name, err)
	}
	r.idle(ctx, r.groups[i].name)
	if err := g.Close(); err != nil {
		r.problem("%s: %v", name, err)
	}
}

// takeAll acks all that comes, until nothing has come for a while.
func (r *groupRun) takeAll(ctx context.Context, g membership, now **member, idle time.Duration) error {
	for {
		quiet, cancel := context.WithTimeout(ctx, idle)
		m, err := g.Recv(quiet)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		r.received(*now, m)
		r.answer(ctx, g, *now, m, handling{verb: acked})
	}
}

// idle asks the server whether it holds nothing more.
func (r *groupRun) idle(ctx context.Context, group string) {
	if r.admin == nil {
		return
	}
	g, err := r.admin.Group(ctx, r.main, group)
	if err != nil || g.InFlight+g.RetryBuffer+g.ReadBuffer != 0 {
		r.problem("%s is not done with %d events: %+v %v", group, len(r.ids), g, err)
	}
}
