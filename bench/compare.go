package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/bench/contend"
)

// oneRun is how long one run of a contender may take with all that belongs to it.
const oneRun = time.Minute

// errNotBuilt says that a contender is not there.
var errNotBuilt = errors.New("it cannot be built here")

// entry is what one contender did in one case.
type entry struct {
	rounds []contend.Result
	err    error // it failed: then its rounds do not count
}

// results are all that was measured.
type results struct {
	cases  []benchCase
	bench  map[string]map[string]*entry // by case and contender
	server string
	loads  [2]string // load averages before and after
}

// compare runs the cases. Each contender runs first against the embedded server, where it is looked at what it has stored
// or read; then the rounds begin.
func compare(o *options, chosen []benchCase, progress io.Writer) (*results, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	peerProgram, peerErr := buildPeer(dir)
	r := &results{cases: chosen, bench: make(map[string]map[string]*entry), server: o.server}
	r.loads[0] = loadAverage()
	for i := range chosen {
		c := &chosen[i]
		_, _ = fmt.Fprintln(progress, c.name)
		entries := make(map[string]*entry)
		r.bench[c.name] = entries
		for _, name := range contenders {
			e := new(entry)
			entries[name] = e
			if name == peer && peerErr != nil {
				e.err = peerErr
				continue
			}
			if err := verify(c, name, peerProgram); err != nil {
				e.err = fmt.Errorf("against the embedded server: %w", err)
			}
		}
		for round := range o.rounds {
			for j := range contenders {
				name := contenders[(j+round)%len(contenders)] // the order takes turns
				e := entries[name]
				if e.err != nil {
					continue
				}
				t := c.task
				t.Contender, t.Run, t.Warm = name, o.run, o.run/4
				if o.profile != "" && name == library {
					t.Profile = filepath.Join(o.profile, fmt.Sprintf("%s-%d.prof", c.name, round))
				}
				one, err := runOnce(o.server, t, peerProgram, nil)
				e.rounds, e.err = append(e.rounds, one), err
			}
		}
	}
	r.loads[1] = loadAverage()
	return r, nil
}

// buildPeer builds the peer, which is a module of its own.
func buildPeer(dir string) (program string, err error) {
	program = filepath.Join(dir, peer)
	if _, err := os.Stat(filepath.Join(peer, "go.mod")); err != nil {
		return "", fmt.Errorf("%w: run this with go run -C bench . (%w)", errNotBuilt, err)
	}
	out, err := exec.CommandContext(context.Background(), "go", "build", "-C", peer, "-o", program, ".").CombinedOutput() //nolint:gosec // names of ours
	if err != nil {
		return "", fmt.Errorf("%w: %w: %s", errNotBuilt, err, out)
	}
	return program, nil
}

// verify has a contender do a counted load against the embedded server and looks at the result.
func verify(c *benchCase, name, peerProgram string) error {
	t := c.task
	t.Contender, t.Count = name, 3
	switch {
	case t.Group != "":
		t.Count = int64(t.Events)
	case !t.Read:
		t.Count = int64(3*t.InFlight + 1)
	}
	_, err := runOnce(embeddedServer, t, peerProgram, func(ctx context.Context, b *backend, r *contend.Result) error {
		if t.Read {
			if want := t.Count * int64(t.Events); r.Ops != want {
				return fmt.Errorf("it says that it has read %d events, want %d", r.Ops, want)
			}
			return nil
		}
		if r.Ops != t.Count {
			return fmt.Errorf("it says that it has done %d, want %d", r.Ops, t.Count)
		}
		if t.Group != "" {
			return nil // what it has left is looked at behind every run
		}
		return stored(ctx, b, &t)
	})
	return err
}

// stored looks whether the stream is what the appends of a counted load make: events with ids of their own.
func stored(ctx context.Context, b *backend, t *contend.Task) error {
	ids := make(map[uuid.UUID]struct{})
	n := int64(0)
	for e, err := range b.client.ReadStream(ctx, b.stream, eventstore.Start) {
		if err != nil {
			return err
		}
		if !contend.Check(0, e.Event.Number-n, e.Event.Data, t.Size) || e.Event.Type != contend.EventType || !e.Event.JSON {
			return fmt.Errorf("event %d of the stream is %+v", n, e.Event)
		}
		ids[e.Event.ID] = struct{}{}
		n++
	}
	if n != t.Count || int64(len(ids)) != n {
		return fmt.Errorf("%d events with %d ids are stored after %d appends", n, len(ids), t.Count)
	}
	return nil
}

// runOnce runs a contender once against a server that is started for it. look, if any, sees the server as the contender left it.
func runOnce(server string, t contend.Task, peerProgram string, look func(context.Context, *backend, *contend.Result) error) (r contend.Result, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), oneRun)
	defer cancel()
	if t.Group != "" && t.Count == 0 && server != cannedServer {
		t.Events, t.Most = storedEvents, storedEvents
	}
	b, err := start(ctx, server, &t)
	if err != nil {
		return r, fmt.Errorf("the server: %w", err)
	}
	t.Addr, t.User, t.Password, t.Stream = b.addr, b.user, b.password, b.stream
	if r, err = contender(ctx, &t, peerProgram); err == nil && look != nil {
		err = look(ctx, b, &r)
	}
	if err == nil {
		err = b.check(ctx, &t, &r)
	}
	return r, errors.Join(err, b.close(ctx))
}

// contender runs the process of a contender.
func contender(ctx context.Context, t *contend.Task, peerProgram string) (r contend.Result, err error) {
	task, err := json.Marshal(t) //nolint:gosec // the password is that of a server to measure
	if err != nil {
		return r, err
	}
	exe, err := os.Executable()
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, exe, roleContender) //nolint:gosec // itself
	if t.Contender == peer {
		cmd = exec.CommandContext(ctx, peerProgram)
	}
	var out, failure strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(string(task)), &out, &failure
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%w: %s", err, shorten(failure.String()))
	}
	return r, json.Unmarshal([]byte(out.String()), &r)
}

// shorten keeps what fits a report of what a process said last.
func shorten(s string) string {
	const most = 300
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = s[:most/2] + " ... " + s[len(s)-most/2:]
	}
	return s
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	if f := strings.Fields(string(b)); len(f) >= 3 {
		return strings.Join(f[:3], " ")
	}
	return "unknown"
}
