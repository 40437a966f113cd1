package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/kills"
	"github.com/goeventstore/eventstore/server"
)

// A process that keeps a read model is killed again and again while the stream is written: no event is missed, none is
// applied twice. KILLS says how often, SEED when; a seed fixes the plan, not what the processes do meanwhile.
func TestKilledProjectorsApplyEachEventOnce(t *testing.T) {
	plan := kills.Make(t, 10)
	g := newGround(t, plan)
	inside := 0
	for range plan.Kills {
		if g.kill(t, correct) {
			inside++
		}
		_, err := g.check(t)
		require.NoError(t, err)
	}
	g.finish(t)
	events, err := g.check(t)
	require.NoError(t, err)
	require.Len(t, g.written, events, "the checkpoint is at the end")
	t.Logf("seed %d: %d kills, %d inside a transaction; %d events in %d transactions, each once", plan.Seed, plan.Kills, inside, events, g.commits)
}

// The checker sees what it looks for: projectors that save the checkpoint in a transaction of its own are found out.
func TestBrokenProjectorsAreCaught(t *testing.T) {
	for kind, says := range map[string]string{
		checkpointFirst: `was applied 0 times$`,
		effectsFirst:    `^the checkpoint is .*, and event \d+ was applied|was applied 2 times$`,
	} {
		t.Run(kind, func(t *testing.T) {
			const enough = 200
			plan := kills.Make(t, enough)
			plan.Kills = enough
			g := newGround(t, plan)
			for kills := range enough {
				g.kill(t, kind)
				if _, err := g.check(t); err != nil {
					require.Regexp(t, says, err.Error())
					t.Logf("seed %d: caught after %d kills: %v", plan.Seed, kills+1, err)
					return
				}
			}
			t.Errorf("not caught by %d kills", enough)
		})
	}
}

// ground is what a kill test stands on: a server, a stream that is being written, and the database of the projectors.
type ground struct {
	random  *rand.Rand
	ctx     context.Context //nolint:containedctx // of one test, which made it: the guard against hangs
	target  string
	path    string
	commits int

	stopWriter func() error // has it write the last event and end

	stop  chan struct{} // closed by stopWriter
	ended chan struct{} // closed by the writer, behind its error
	wrote error

	mu      sync.Mutex    // guards what follows
	written []uint64      // the amounts
	handled int           // events, as far as a projector said
	more    chan struct{} // has room for one, put in when handled has grown
}

func newGround(t *testing.T, plan kills.Plan) *ground {
	t.Helper()
	g := &ground{
		random: plan.Random, path: filepath.Join(t.TempDir(), "test.db"),
		stop: make(chan struct{}), ended: make(chan struct{}), more: make(chan struct{}, 1),
	}
	limit := time.Minute + time.Duration(plan.Kills)*2*time.Second
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	guard := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			stacks := make([]byte, 1<<20)
			fmt.Fprintf(os.Stderr, "it hangs:\n%s\n", stacks[:runtime.Stack(stacks, true)])
		}
	})
	t.Cleanup(func() { guard(); cancel() })
	g.ctx = ctx

	srv, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	g.target = strings.Replace(srv.URL(), "tcp://", "tcp://admin:changeit@", 1)
	client, err := eventstore.Connect(ctx, g.target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	random := rand.New(rand.NewPCG(plan.Seed, 1))
	go func() {
		defer close(g.ended)
		g.wrote = g.write(client, random)
	}()
	g.stopWriter = sync.OnceValue(func() error {
		close(g.stop)
		<-g.ended
		return g.wrote
	})
	t.Cleanup(func() { _ = g.stopWriter() })
	return g
}

// write keeps some events ahead of the projectors, and writes the last one when it shall stop.
func (g *ground) write(client *eventstore.Client, random *rand.Rand) error {
	const ahead = 500
	stopping := false
	for !stopping {
		g.mu.Lock()
		wait := len(g.written) > g.handled+ahead
		first := len(g.written)
		g.mu.Unlock()
		if wait {
			select {
			case <-g.more:
				continue
			case <-g.stop:
			case <-g.ctx.Done():
				return g.ctx.Err()
			}
		}
		select {
		case <-g.stop:
			stopping = true
		default:
		}
		var batch []eventstore.EventData
		var amounts []uint64
		for range 1 + random.IntN(30) {
			amounts = append(amounts, random.Uint64N(1000))
			batch = append(batch, eventstore.EventData{Type: "moved", Data: strconv.AppendUint(nil, amounts[len(amounts)-1], 10)})
		}
		if stopping {
			batch[len(batch)-1].Type = lastType
		}
		g.mu.Lock()
		g.written = append(g.written, amounts...) // before they are there: a projector is quick
		g.mu.Unlock()
		if _, err := client.Append(g.ctx, stream, eventstore.ExpectedVersion(first-1), batch); err != nil {
			return err
		}
	}
	return nil
}

// kill starts a projector and kills it: sometimes while it starts, mostly some transactions later. It returns whether that
// was inside a transaction.
func (g *ground) kill(t *testing.T, kind string) (inside bool) {
	t.Helper()
	after, pause := 0, time.Duration(g.random.Int64N(int64(100*time.Millisecond)))
	if g.random.IntN(5) > 0 {
		after, pause = 1+g.random.IntN(30), time.Duration(g.random.Int64N(int64(3*time.Millisecond)))
	}
	p := g.begin(t, kind)
	var timer *time.Timer
	if after == 0 {
		timer = time.AfterFunc(pause, p.Kill)
	}
	for begun := 0; p.Lines.Scan(); {
		inside = g.heard(p.Lines.Text())
		if !inside {
			continue
		}
		if begun++; begun == after {
			timer = time.AfterFunc(pause, p.Kill)
		}
	}
	if timer != nil {
		timer.Stop()
	}
	err := p.Wait()
	require.NoError(t, g.ctx.Err(), "it hangs: %s", &p.Stderr)
	require.Equal(t, -1, p.ProcessState.ExitCode(), "it ended by itself: %v\n%s", err, &p.Stderr)
	return inside
}

// heard takes in what a projector says; true when that is that a transaction begins.
func (g *ground) heard(line string) bool {
	var at int
	if _, err := fmt.Sscanf(line, "end %d", &at); err != nil {
		return line == "begin"
	}
	g.commits++
	g.mu.Lock()
	g.handled = at + 1
	g.mu.Unlock()
	select {
	case g.more <- struct{}{}:
	default:
	}
	return false
}

// finish has a projector come to the end of the stream.
func (g *ground) finish(t *testing.T) {
	t.Helper()
	require.NoError(t, g.stopWriter())
	p := g.begin(t, correct)
	for p.Lines.Scan() {
		g.heard(p.Lines.Text())
	}
	require.NoError(t, p.Wait(), "%s", &p.Stderr)
}

// check looks into the database, whose process has ended.
func (g *ground) check(t *testing.T) (events int, err error) {
	t.Helper()
	if _, err := os.Stat(g.path); os.IsNotExist(err) {
		return 0, nil
	}
	db, err := bbolt.Open(g.path, 0o600, &bbolt.Options{Timeout: 10 * time.Second})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	g.mu.Lock()
	defer g.mu.Unlock()
	return check(db, g.written)
}

func (g *ground) begin(t *testing.T, kind string) *kills.Process {
	t.Helper()
	return kills.Start(t, g.ctx, projectorVariable+"="+kind, g.target, g.path)
}
