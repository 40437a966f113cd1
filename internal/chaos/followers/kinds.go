package followers

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/pause"
	"github.com/goeventstore/eventstore/listener"
	"github.com/goeventstore/eventstore/listener/boltstore"
	"github.com/goeventstore/eventstore/subscription"
)

const (
	leasedStreams = "listeners with a lease in a stream"
	inOneBolt     = "transactions in bbolt"
	inBoltByTwo   = "transactions in bbolt by two processes"
)

// Kinds are those of this module.
func Kinds() []*Kind {
	numbered := []Source{AStream, ACategory}
	each := []Source{AStream, ACategory, Everything, SomeStreams, SomeTypes, SomeOfAStream}
	truncated := []Source{AStream}
	mixed := []Source{ACategory, Everything, SomeStreams}
	return []*Kind{
		{Name: "catch-up", Sources: []Source{AStream, ACategory, SomeOfAStream}, Processes: 2, Prepare: subscribing(Rules{Once: true})},
		{Name: "live", Sources: []Source{AStream, ACategory, SomeOfAStream}, Processes: 2, Prepare: subscribing(Rules{Once: true, Live: true})},
		{Name: "$all", Sources: []Source{Everything}, Processes: 2, Prepare: subscribing(Rules{Once: true})},
		{Name: "$all with a filter", Sources: []Source{SomeStreams, SomeTypes}, Processes: 2, Prepare: subscribing(Rules{Once: true})},
		{Name: "$all live", Sources: []Source{Everything, SomeStreams, SomeTypes}, Processes: 2, Prepare: subscribing(Rules{Once: true, Live: true})},
		{Name: "fan-out", Sources: each, Prepare: fanningOut},
		{Name: "listener in memory", Sources: each, Prepare: inMemory(Rules{}, oneByOne)},
		{Name: "listener from the end", Sources: each, Prepare: inMemory(Rules{Live: true}, oneByOne)},
		{Name: "listener with files", Sources: each, Prepare: inFiles},
		{Name: "listener of batches", Sources: each, Prepare: inMemory(Rules{Batch: mostAtOnce}, inBatches)},
		{Name: "listener by keys at once", Sources: mixed, Prepare: inMemory(Rules{Keyed: true, AtOnce: atOnce}, parallel)},
		{Name: "listener that skips", Sources: numbered, Prepare: thatSkips},
		{Name: "listener that replays", Sources: numbered, Prepare: thatReplays},
		{Name: "listener that is patched", Sources: each, Prepare: thatIsPatched},
		{Name: "listener of what is truncated", Sources: truncated, Truncates: true, Prepare: inMemory(Rules{}, oneByOne)},
		{Name: "catch-up of what is truncated", Sources: truncated, Truncates: true, Processes: 2, Prepare: subscribing(Rules{Once: true})},
		{Name: "listener by keys that parks", Sources: []Source{ACategory}, Prepare: thatParks},
		{Name: "listener with a stream", Sources: numbered, Prepare: inStreams(Rules{})},
		{Name: leasedStreams, Sources: numbered, Processes: 3, Prepare: inStreams(Rules{Shared: true})},
		{Name: inOneBolt, Sources: each, Prepare: inBolt},
		{Name: inBoltByTwo, Sources: each, Processes: 2, Prepare: inBolt},
	}
}

// from is where one begins who has no place yet.
func (r Rules) from() eventstore.From {
	if r.Live {
		return eventstore.End
	}
	return eventstore.Start
}

// subscribing follows by subscriptions, each of which goes on where the last one of its process came.
func subscribing(rules Rules) func(*Run) Follower {
	return func(*Run) Follower { return Follower{Rules: rules, Follow: subscribe} }
}

func subscribe(l *Life) error {
	for {
		place, ok := l.Remembered(l.Name())
		if !ok {
			place = l.rules.from()
		}
		var leg *Leg
		cfg := subscription.Config{
			Stream: l.source.Stream, Filter: l.source.Filter, From: place, Borrowed: l.Draw(2) == 0, Buffer: 1 + l.Draw(20), PageSize: 1 + l.Draw(20),
			OnNotice: put(l.kind.between.notices, func(n subscription.Notice) { leg.Notice(n) }),
		}
		if !place.IsEnd() {
			leg = l.Begin(l.Name(), place)
		}
		sub, err := subscription.Open(l.Context, l.Client, cfg)
		if err != nil {
			return unlessOver(l.Context, err)
		}
		if place.IsEnd() {
			leg = l.Begin(l.Name(), sub.Checkpoint())
		}
		err = receive(l, leg, put[receiver](l.kind.between.subscription, sub), cfg.Borrowed)
		_ = sub.Close() // which returns nil
		if err != nil {
			return unlessOver(l.Context, err)
		}
	}
}

// receiver is what is used of a subscription.
type receiver interface {
	Recv(ctx context.Context) (eventstore.ResolvedEvent, error)
}

// receive takes events until the process has had enough of this subscription.
func receive(l *Life, leg *Leg, sub receiver, borrowed bool) error {
	var kept []eventstore.ResolvedEvent
	var seen []sight
	defer func() {
		for i, e := range kept {
			if s := see(e); s != seen[i] && !l.isDead() {
				l.problem("%v has kept %s, which is %s now", leg, seen[i].text, s.text)
			}
		}
	}()
	for {
		ctx, cancel := l.Context, func() {}
		if l.Draw(10) == 0 { // to come back after a wait
			ctx, cancel = context.WithTimeout(l.Context, time.Duration(l.Draw(1000))*time.Millisecond)
		}
		e, err := sub.Recv(ctx)
		over := ctx.Err() != nil
		cancel()
		switch {
		case err != nil && over && l.Context.Err() == nil:
			continue
		case err != nil:
			return err
		}
		if !borrowed {
			kept, seen = append(kept, e), append(seen, see(e))
		}
		if !l.gets(leg, e) {
			return l.Context.Err() // nil: it subscribes again
		}
	}
}

// gets reports whether the process gets through with an event.
func (l *Life) gets(leg *Leg, e eventstore.ResolvedEvent) (ok bool) {
	defer func() {
		if v := recover(); v != nil && v != any(errPanic) {
			panic(v)
		}
	}()
	return l.Work(l.Context, leg, []eventstore.ResolvedEvent{e}, nil) == nil
}

// unlessOver is an error of a life that was to go on.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// mostAtOnce are the events between two saves, at most.
const mostAtOnce = 20

// config is that of a listener, with all that may vary.
func (l *Life) config() listener.Config {
	return listener.Config{
		Name: l.Name(), Stream: l.source.Stream, Filter: l.source.Filter, From: l.rules.from(),
		SaveEvery: 1 + l.Draw(mostAtOnce), SaveAfter: time.Duration(1+l.Draw(2000)) * time.Millisecond,
		Owner: l.name, LeaseTTL: (time.Second + time.Duration(l.Draw(5000))*time.Millisecond) / l.hurry,
		Backoff:  func() backoff.BackOff { return backoff.NewConstantBackOff(100 * time.Millisecond) },
		OnNotice: put(l.kind.between.notices, func(n subscription.Notice) { l.Leg().Notice(n) }),
	}
}

// run runs a listener until the life is over, and has it rest now and then.
func (l *Life) run(lis *listener.Listener, err error) error {
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(l.Context)
	var rests sync.WaitGroup
	if !l.calm {
		rests.Go(func() { l.rest(ctx, put[pauser](l.kind.between.pauses, lis)) })
	}
	mended := mender(lis)
	if l.kind.between.mends != nil {
		mended = l.kind.between.mends(l, lis)
	}
	if l.rules.Patched && !l.calm {
		rests.Go(func() { l.patch(ctx, mended) })
	}
	if l.rules.Replayed { // also when all is calm: nothing may stay behind
		rests.Go(func() { l.replay(ctx, mended) })
	}
	err = lis.Run(l.Context)
	cancel()
	rests.Wait()
	return err
}

// pauser is what is used of a listener that runs.
type pauser interface {
	Pause(ctx context.Context) (eventstore.From, error)
	Resume(ctx context.Context) error
}

// rest pauses and resumes a listener.
func (l *Life) rest(ctx context.Context, lis pauser) {
	for pause.For(ctx, time.Duration(2000+l.Draw(20_000))*time.Millisecond/l.hurry) == nil {
		at, err := lis.Pause(ctx)
		leg := l.Leg()
		if err == nil && leg != nil {
			leg.tell(entry{verb: rests, place: at})
		}
		if pause.For(ctx, time.Duration(l.Draw(3000))*time.Millisecond/l.hurry) != nil {
			return
		}
		if err == nil && leg != nil {
			leg.tell(entry{verb: resumes})
		}
		if err := lis.Resume(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errBadDay) {
			l.problem("%s: resume: %v", l.name, err)
		}
	}
}

// handle is a listener's handler.
func (l *Life) handle(ctx context.Context, e eventstore.ResolvedEvent) error {
	if l.isReplay(e) {
		return l.again(ctx, e)
	}
	return l.Work(ctx, l.Leg(), []eventstore.ResolvedEvent{e}, nil)
}

// making is how a listener is made.
type making func(l *Life, cfg listener.Config) (*listener.Listener, error)

func oneByOne(l *Life, cfg listener.Config) (*listener.Listener, error) {
	return listener.New(l.Client, cfg, put(l.kind.between.handler, l.handle))
}

func inBatches(l *Life, cfg listener.Config) (*listener.Listener, error) {
	return listener.NewBatch(l.Client, cfg, func(ctx context.Context, batch []eventstore.ResolvedEvent) error {
		return l.Work(ctx, l.Leg(), batch, nil)
	})
}

// atOnce is how many events are handled at once by those that do.
const atOnce = 3

func parallel(l *Life, cfg listener.Config) (*listener.Listener, error) {
	cfg.Parallel += atOnce
	return oneByOne(l, cfg)
}

// attempts is how often those try that give up.
const attempts = 2

func thatGoesOn(l *Life, cfg listener.Config) (*listener.Listener, error) {
	if cfg.OnFailure == listener.RetryForever {
		cfg.OnFailure = listener.RetryThenSkip(attempts)
	}
	return oneByOne(l, cfg)
}

const parkedIn = "parked"

func byKeysThatGoesOn(l *Life, cfg listener.Config) (*listener.Listener, error) {
	cfg.OnFailure = listener.RetryThenPark(attempts, parkedIn)
	return parallel(l, cfg)
}

// givenUp lists what was given up on.
func givenUp(r *Run, stream string) func(ctx context.Context) ([]eventstore.From, error) {
	return func(ctx context.Context) (all []eventstore.From, err error) {
		for f, err := range listener.Failed(ctx, r.sound, stream) {
			if errors.Is(err, eventstore.ErrStreamNotFound) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			all = append(all, eventstore.After(f.Number))
		}
		return all, nil
	}
}

// listening follows by a listener with this store.
func listening(rules Rules, store func(l *Life) listener.Store, at func(ctx context.Context) (eventstore.From, error), how making) Follower {
	return Follower{Rules: rules, Checkpoint: at, Follow: func(l *Life) error {
		cfg := l.config()
		cfg.Store = put(l.kind.between.store, l.Store(store(l)))
		if l.kind.between.config != nil {
			l.kind.between.config(&cfg)
		}
		return l.run(how(l, cfg))
	}}
}

// kept follows by a listener with a store that is kept over the lives of its process.
func kept(rules Rules, s listener.Store, how making) Follower {
	return listening(rules, func(*Life) listener.Store { return s }, func(ctx context.Context) (eventstore.From, error) {
		return s.Load(ctx, "p0")
	}, how)
}

// inMemory is kept for a store in memory.
func inMemory(rules Rules, how making) func(*Run) Follower {
	return func(*Run) Follower { return kept(rules, listener.MemoryStore(), how) }
}

func inFiles(r *Run) Follower { return kept(Rules{}, listener.FileStore(r.T.TempDir()), oneByOne) }

func thatSkips(r *Run) Follower {
	f := kept(Rules{GiveUp: attempts}, listener.MemoryStore(), thatGoesOn)
	f.GivenUp = givenUp(r, listener.SkippedStream(r.processes[0].name))
	return f
}

func thatParks(r *Run) Follower {
	f := kept(Rules{GiveUp: attempts, Keyed: true, AtOnce: atOnce}, listener.MemoryStore(), byKeysThatGoesOn)
	f.GivenUp = givenUp(r, parkedIn)
	return f
}

// inStreams keeps the checkpoint in the server itself, under a lease.
func inStreams(rules Rules) func(r *Run) Follower {
	rules.Remote = true
	return func(r *Run) Follower {
		const prefix = "checkpoints-"
		store := func(l *Life) listener.Store { return listener.StreamStore(l.Client, prefix) }
		f := listening(rules, store, func(ctx context.Context) (eventstore.From, error) {
			name := sharedName
			if !rules.Shared {
				name = r.processes[0].name
			}
			return listener.StreamStore(r.sound, prefix).Load(ctx, name)
		}, oneByOne)
		if rules.Shared {
			f.Watch = func(ctx context.Context) { r.watchStream(ctx, prefix+sharedName) }
		}
		return f
	}
}

// watchStream tells of the leases in a stream.
func (r *Run) watchStream(ctx context.Context, stream string) {
	sub, err := subscription.Open(ctx, r.sound, subscription.Config{Stream: stream})
	if err != nil {
		r.problem("watch: %v", err)
		return
	}
	defer func() { _ = sub.Close() }()
	var last string
	for e, err := range sub.Events(ctx) {
		if err != nil {
			if ctx.Err() == nil {
				r.problem("watch: %v", err)
			}
			return
		}
		var record struct{ Lease, Owner string }
		if err := json.Unmarshal(e.Event.Data, &record); err != nil {
			r.problem("watch: %v", err)
		}
		if record.Lease != last && record.Owner != "" {
			r.Owned(record.Owner, e.Event.Created)
		}
		last = record.Lease
	}
}

var effects = []byte("effects")

func inBolt(r *Run) Follower { return openBolt(r).Follower(Rules{}) }

func openBolt(r *Run) Transactional[*bbolt.Tx] {
	db, err := bbolt.Open(filepath.Join(r.T.TempDir(), "db"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
	require.NoError(r.T, err)
	r.T.Cleanup(func() { require.NoError(r.T, db.Close()) })
	store, err := boltstore.New(db, "checkpoints")
	require.NoError(r.T, err)
	return Transactional[*bbolt.Tx]{
		Store: store, Turns: make(chan struct{}, 1),
		Apply: func(tx *bbolt.Tx, e Effect) error {
			b, err := tx.CreateBucketIfNotExists(effects)
			if err != nil {
				return err
			}
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			value, err := json.Marshal(e)
			return errors.Join(err, b.Put(binary.BigEndian.AppendUint64(nil, n), value))
		},
		Read: func(tx *bbolt.Tx) (all []Effect, err error) {
			b := tx.Bucket(effects)
			if b == nil {
				return nil, nil
			}
			err = b.ForEach(func(_, value []byte) error {
				var e Effect
				err := json.Unmarshal(value, &e)
				all = append(all, e)
				return err
			})
			return all, err
		},
	}
}
