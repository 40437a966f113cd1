package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/bench/canned"
	"github.com/goeventstore/eventstore/bench/contend"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
	"github.com/goeventstore/eventstore/server"
)

// The servers beside real ones.
const (
	cannedServer   = "canned"
	embeddedServer = "embedded"
)

// serverTask is what the process of a server is to do.
type serverTask struct {
	Kind         string
	Events, Size int // of the stream that the canned one has
}

// served is what came to the canned server.
type served struct{ Appends, Reads, Acks int64 }

// serve is the process of a server: it prints its address, ends with its input, and prints what came.
func serve() (err error) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var t serverTask
	if err := in.Decode(&t); err != nil {
		return err
	}
	if t.Kind == embeddedServer {
		s, err := server.Start(server.Config{})
		if err != nil {
			return err
		}
		err = out.Encode(strings.TrimPrefix(s.URL(), "tcp://"))
		_, _ = io.Copy(io.Discard, os.Stdin)
		return errors.Join(err, s.Close(), out.Encode(served{}))
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s, err := canned.Serve(l, canned.Config{Events: t.Events, EventSize: t.Size})
	if err != nil {
		return err
	}
	err = out.Encode(l.Addr().String())
	_, _ = io.Copy(io.Discard, os.Stdin)
	err = errors.Join(err, s.Close())
	return errors.Join(err, out.Encode(served{s.Came(messages.WriteEvents), s.Came(messages.ReadStreamEventsForward), s.Acked()}))
}

// backend is a server as one run of a contender meets it.
type backend struct {
	addr, user, password string
	stream               string // to be written, or to be read
	group                string // that was made on it

	child  *exec.Cmd
	stdin  io.Closer
	answer *json.Decoder
	client *eventstore.Client // of servers that store
}

// start starts a server, or connects to a real one, for a run of a task.
func start(ctx context.Context, kind string, t *contend.Task) (b *backend, err error) {
	b = &backend{user: "admin", password: "changeit", stream: "bench-" + rand.Text()}
	if kind != cannedServer && kind != embeddedServer {
		if err := b.parse(kind); err != nil {
			return nil, err
		}
	} else if err := b.launch(ctx, serverTask{Kind: kind, Events: t.Events, Size: t.Size}); err != nil {
		return nil, err
	}
	if kind == cannedServer {
		return b, nil
	}
	b.client, err = eventstore.Connect(ctx, "tcp://"+b.addr, eventstore.WithCredentials(b.user, b.password))
	if err == nil && (t.Read || t.Group != "") {
		err = b.seed(ctx, t)
	}
	if err == nil && t.Group != "" {
		err = b.createGroup(ctx, t)
	}
	if err != nil {
		return nil, errors.Join(err, b.close(ctx))
	}
	return b, nil
}

func (b *backend) parse(address string) error {
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if u.Scheme != "tcp" || u.Port() == "" {
		return fmt.Errorf("the server %q: want %s, %s or tcp://user:password@host:port", address, cannedServer, embeddedServer)
	}
	b.addr = u.Host
	if u.User != nil {
		b.user = u.User.Username()
		b.password, _ = u.User.Password()
	}
	return nil
}

// launch starts the process of a server.
func (b *backend) launch(ctx context.Context, t serverTask) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	b.child = exec.CommandContext(ctx, exe, roleServer) //nolint:gosec // itself
	b.child.Stderr = os.Stderr
	stdin, err := b.child.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := b.child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.child.Start(); err != nil {
		return err
	}
	b.stdin, b.answer = stdin, json.NewDecoder(stdout)
	return errors.Join(json.NewEncoder(stdin).Encode(t), b.answer.Decode(&b.addr))
}

// seed writes the stream that is to be read. For a group it has one event more than are to be taken.
func (b *backend) seed(ctx context.Context, t *contend.Task) error {
	events := int64(t.Events)
	if t.Group != "" {
		events++
	}
	for n := int64(0); n < events; {
		batch := make([]eventstore.EventData, min(events-n, pageEvents))
		for i := range batch {
			batch[i] = eventstore.EventData{ID: contend.ID(n), Type: contend.EventType, JSON: true, Data: contend.Data(n, t.Size)}
			n++
		}
		if _, err := b.client.Append(ctx, b.stream, eventstore.Any, batch); err != nil {
			return err
		}
	}
	return nil
}

func (b *backend) createGroup(ctx context.Context, t *contend.Task) error {
	s := persistent.DefaultSettings()
	s.Buffer, s.ReadBatch = 500+4*t.InFlight, 100
	b.group = t.Group
	return persistent.Create(ctx, b.client, b.stream, b.group, s)
}

// left looks whether the group goes on behind as many messages as were taken, so that each was acknowledged. Others come
// first when they were not.
func (b *backend) left(ctx context.Context, t *contend.Task, taken int64) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	g, err := persistent.Join(ctx, b.client, persistent.Config{Stream: b.stream, Group: t.Group, Window: t.InFlight})
	if err != nil {
		return err
	}
	defer func() { _ = g.Close() }() //nolint:contextcheck // there is nothing to wait for
	for m, err := range g.Messages(ctx) {
		switch {
		case err != nil:
			return fmt.Errorf("%d messages were taken, but the one behind does not come: %w", taken, err)
		case m.Event.Number < taken:
			return fmt.Errorf("%d messages were taken, but number %d comes again", taken, m.Event.Number)
		case m.Event.Number == taken:
			return nil
		}
	}
	return nil
}

// check ends the server, or what a run left on a real one, and looks whether all that the contender says it has done was
// asked of the server.
func (b *backend) check(ctx context.Context, t *contend.Task, r *contend.Result) error {
	did := r.Warm + r.Ops
	if b.client != nil {
		switch {
		case t.Group != "":
			return errors.Join(b.left(ctx, t, did), b.close(ctx))
		case t.Read: // every event was checked by the contender
			return b.close(ctx)
		}
		last, err := b.client.LastEvent(ctx, b.stream)
		if err == nil && last.Event.Number != did-1 {
			err = fmt.Errorf("%d appends, but the last event is number %d", did, last.Event.Number)
		}
		return errors.Join(err, b.close(ctx))
	}
	if err := b.stdin.Close(); err != nil {
		return err
	}
	var s served
	err := b.answer.Decode(&s)
	came := s.Appends
	switch {
	case t.Group != "":
		came = s.Acks
	case t.Read:
		came = s.Reads * int64(t.Page)
	}
	if err == nil && came != did {
		err = fmt.Errorf("%d operations, but the server has seen %d", did, came)
	}
	return errors.Join(err, b.child.Wait())
}

func (b *backend) close(ctx context.Context) (err error) {
	if b.client != nil {
		if b.child == nil { // it stays on a real server
			if b.group != "" {
				err = persistent.Delete(ctx, b.client, b.stream, b.group)
			}
			if _, gone := b.client.Delete(ctx, b.stream, eventstore.Any); !errors.Is(gone, eventstore.ErrStreamNotFound) {
				err = errors.Join(err, gone)
			}
		}
		err = errors.Join(err, b.client.Close())
		b.client = nil
	}
	if b.child == nil {
		return err
	}
	_ = b.stdin.Close() // that it is closed already is fine
	if b.child.ProcessState == nil {
		_, _ = io.Copy(io.Discard, b.answer.Buffered())
		err = errors.Join(err, b.child.Wait())
	}
	return err
}
