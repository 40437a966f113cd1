package sqltest

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/kills"
	"github.com/goeventstore/eventstore/listener/sqlstore"
	"github.com/goeventstore/eventstore/server"
)

// Two processes keep one read model under one name. The one at work is killed, or stands still until the other has the lease,
// again and again: each event is applied once and in order, so that no two owners' effects are mixed. KILLS says how often,
// SEED when; a seed fixes the plan, not what the processes do meanwhile.
func TestKilledOwnersSQLite(t *testing.T) { killedOwners(t, sqlite(t, usual...)) }

func TestKilledOwnersPostgres(t *testing.T) { killedOwners(t, postgres(t)) }

func killedOwners(t *testing.T, d database) {
	t.Helper()
	g := newGround(t, d, kills.Make(t, 6), leased)
	for range g.plan.Kills {
		g.round(t)
		require.NoError(t, g.check(t, false))
	}
	g.finish(t)
	require.NoError(t, g.check(t, true))
	owners := 0
	require.NoError(t, g.db.QueryRowContext(t.Context(), `SELECT count(DISTINCT owner) FROM effects`).Scan(&owners))
	require.Greater(t, owners, 1)
	t.Logf("seed %d: %d processes were killed, %d stood still; %d events by %d owners", g.plan.Seed, g.killed, g.stood, g.written, owners)
}

// The checker sees what it looks for.
func TestOwnersWithoutLeasesAreCaught(t *testing.T) {
	const enough = 20
	plan := kills.Make(t, enough)
	plan.Kills = enough
	g := newGround(t, sqlite(t, usual...), plan, apart)
	for n := range enough {
		g.round(t)
		if err := g.check(t, false); err != nil {
			require.ErrorContains(t, err, "want")
			t.Logf("seed %d: caught after %d kills: %v", g.plan.Seed, n+1, err)
			return
		}
	}
	t.Errorf("not caught by %d kills", enough)
}

// ground is what a kill test stands on: a server, a stream, a database, and two projectors.
type ground struct {
	plan   kills.Plan
	kind   string
	ctx    context.Context //nolint:containedctx // of one test, which made it: the guard against hangs
	client *eventstore.Client
	db     *sql.DB
	args   []string

	written       int
	killed, stood int

	projectors [2]*kills.Process
	readers    sync.WaitGroup

	mu      sync.Mutex    // guards what follows
	handled int           // events, as far as a projector has said that it handles them
	worker  int           // who said so
	more    chan struct{} // has room for one, put in when these have changed
}

func newGround(t *testing.T, d database, plan kills.Plan, kind string) *ground {
	t.Helper()
	g := &ground{plan: plan, kind: kind, more: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute+time.Duration(plan.Kills)*5*time.Second)
	t.Cleanup(cancel)
	g.ctx = ctx
	srv, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	target := strings.Replace(srv.URL(), "tcp://", "tcp://admin:changeit@", 1)
	g.client, err = eventstore.Connect(ctx, target)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, g.client.Close()) })
	d.store(t)
	g.db = d.open(t)
	seq := `INTEGER PRIMARY KEY AUTOINCREMENT`
	if d.dialect == sqlstore.Postgres {
		seq = `BIGSERIAL PRIMARY KEY`
	}
	_, err = g.db.ExecContext(ctx, `CREATE TABLE effects (seq `+seq+`, n BIGINT NOT NULL, owner BIGINT NOT NULL)`)
	require.NoError(t, err)
	g.args = []string{target, d.driver, d.source, strconv.Itoa(int(d.dialect))}
	t.Cleanup(func() {
		for i := range g.projectors {
			g.end(t, i)
		}
		g.readers.Wait()
	})
	for i := range g.projectors {
		g.begin(t, i)
	}
	return g
}

// begin starts a projector.
func (g *ground) begin(t *testing.T, i int) {
	t.Helper()
	p := kills.Start(t, g.ctx, projectorVariable+"="+g.kind, g.args...)
	g.projectors[i] = p
	g.readers.Go(func() {
		for p.Lines.Scan() {
			var n int
			if _, err := fmt.Sscanf(p.Lines.Text(), "handle %d", &n); err != nil {
				continue
			}
			g.mu.Lock()
			g.handled, g.worker = max(g.handled, n+1), i
			g.mu.Unlock()
			select {
			case g.more <- struct{}{}:
			default:
			}
		}
	})
}

// end kills a projector, which must have been alive.
func (g *ground) end(t *testing.T, i int) {
	t.Helper()
	p := g.projectors[i]
	if p == nil {
		return
	}
	g.projectors[i] = nil
	p.Kill()
	_ = p.Wait()
	if g.ctx.Err() != nil || p.ProcessState.ExitCode() != -1 {
		t.Errorf("a projector hangs, or has ended by itself: %v, %v\n%s", g.ctx.Err(), p.ProcessState, &p.Stderr)
	}
}

// await waits until so many events are handled, and returns who handled the last ones; or until all is over.
func (g *ground) await(t *testing.T, handled int) (worker int) {
	t.Helper()
	for {
		g.mu.Lock()
		have, worker := g.handled, g.worker
		g.mu.Unlock()
		if have >= handled {
			return worker
		}
		select {
		case <-g.more:
		case <-g.ctx.Done():
			t.Fatalf("it hangs: %d of %d events are handled, %d are written", have, handled, g.written)
		}
	}
}

// round writes events, and kills the projector in the middle of them, or has it stand still.
func (g *ground) round(t *testing.T) {
	t.Helper()
	first := g.written
	events := make([]eventstore.EventData, 1+g.plan.Random.IntN(200))
	for i := range events {
		events[i].Type = "moved"
	}
	_, err := g.client.Append(g.ctx, stream, eventstore.ExpectedVersion(first-1), events)
	require.NoError(t, err)
	g.written += len(events)
	worker := g.await(t, first+1+g.plan.Random.IntN(len(events)))
	if g.killed > 0 && g.plan.Random.IntN(4) == 0 {
		worker = 1 - worker // the one that waits may die as well
	}
	if g.killed == 0 || g.plan.Random.IntN(3) > 0 {
		g.end(t, worker)
		g.begin(t, worker)
		g.killed++
		return
	}
	p := g.projectors[worker].Process
	require.NoError(t, p.Signal(syscall.SIGSTOP))
	timer := time.NewTimer(leaseTTL + time.Duration(g.plan.Random.Int64N(int64(leaseTTL))))
	defer timer.Stop()
	<-timer.C // it is for this long that it stands still
	require.NoError(t, p.Signal(syscall.SIGCONT))
	g.stood++
}

// finish has all events handled, and ends both projectors.
func (g *ground) finish(t *testing.T) {
	t.Helper()
	g.await(t, g.written)
	for done := 0; done < g.written; {
		require.NoError(t, g.db.QueryRowContext(g.ctx, `SELECT count(*) FROM effects`).Scan(&done), "it hangs, or events are lost")
	}
	for i := range g.projectors {
		g.end(t, i)
	}
}

// check looks at the effects: each once, in the order of the events; all of them, if all are to be there.
func (g *ground) check(t *testing.T, all bool) error {
	t.Helper()
	rows, err := g.db.QueryContext(g.ctx, `SELECT n FROM effects ORDER BY seq`)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	next := 0
	for rows.Next() {
		var n int
		require.NoError(t, rows.Scan(&n))
		if n != next {
			return fmt.Errorf("event %d was applied, want %d", n, next)
		}
		next++
	}
	require.NoError(t, rows.Err())
	if all && next != g.written {
		return fmt.Errorf("%d events were applied, want %d", next, g.written)
	}
	return nil
}
