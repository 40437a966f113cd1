//go:build unix

package chaos_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

// stopped is for how long a process stands still: longer than heartbeats take to miss it.
const stopped = 5 * time.Second

// process starts this program again, to run a test that is for that alone, and returns the first line that it prints.
func process(t *testing.T, test, argument string) (p *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	p = exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+test+"$", "-test.v") // #nosec G204 -- this very program
	p.Env = append(os.Environ(), "CHAOS_PROCESS="+test, "CHAOS_ARGUMENT="+argument)
	p.Stderr = os.Stderr
	in, err := p.StdinPipe()
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	t.Cleanup(func() {
		_ = in.Close() // it ends with it
		_ = p.Process.Signal(syscall.SIGCONT)
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	return p, bufio.NewScanner(out)
}

// line is the next line that begins like this, without that.
func line(t *testing.T, lines *bufio.Scanner, prefix string) string {
	t.Helper()
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), prefix); ok {
			return text
		}
	}
	require.FailNow(t, "the process said nothing more", "want %q", prefix)
	return ""
}

func stop(t *testing.T, p *exec.Cmd) {
	t.Helper()
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	time.Sleep(stopped)
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
}

// TestServerProcess is a server for TestAServerThatStandsStill.
func TestServerProcess(t *testing.T) {
	if os.Getenv("CHAOS_PROCESS") != t.Name() {
		t.Skip("it is a process of another test")
	}
	srv, err := server.Start(server.Config{TCP: "127.0.0.1:0"})
	require.NoError(t, err)
	fmt.Println("\nserves " + srv.URL())
	_, _ = os.Stdin.Read(make([]byte, 1))
	require.NoError(t, srv.Close())
}

// counting counts the connections that a client makes.
func counting(dials *atomic.Int64) eventstore.Option {
	return eventstore.WithDialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	})
}

// The server's process stands still for 5 s while somebody appends: its silence is noticed, the connection is replaced, and
// every event is stored once.
func TestAServerThatStandsStill(t *testing.T) {
	t.Parallel()
	p, lines := process(t, "TestServerProcess", "")
	var dials atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := eventstore.Connect(ctx, line(t, lines, "serves "), counting(&dials))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	var want []uuid.UUID
	var enough atomic.Bool
	appended := make(chan error, 1)
	go func() {
		next := eventstore.NoStream
		for !enough.Load() {
			e := eventstore.EventData{ID: uuid.New(), Type: "t", Data: []byte("x")}
			r, err := c.Append(ctx, stream, next, []eventstore.EventData{e})
			if err != nil {
				appended <- err
				return
			}
			want = append(want, e.ID)
			next = r.Last
		}
		appended <- nil
	}()
	time.Sleep(200 * time.Millisecond) // into the middle of it
	stop(t, p)
	require.NoError(t, c.Ping(ctx))
	enough.Store(true)
	require.NoError(t, <-appended)
	require.Greater(t, dials.Load(), int64(1))
	var stored []uuid.UUID
	for e, err := range c.ReadStream(ctx, stream, eventstore.Start) {
		require.NoError(t, err)
		stored = append(stored, e.Event.ID)
	}
	require.Equal(t, want, stored)
}

// TestClientProcess is a client for TestAClientThatStandsStill.
func TestClientProcess(t *testing.T) {
	if os.Getenv("CHAOS_PROCESS") != t.Name() {
		t.Skip("it is a process of another test")
	}
	var dials atomic.Int64
	c, err := eventstore.Connect(t.Context(), os.Getenv("CHAOS_ARGUMENT"), counting(&dials))
	require.NoError(t, err)
	fmt.Println("\nconnected")
	ended := make(chan struct{})
	go func() { _, _ = os.Stdin.Read(make([]byte, 1)); close(ended) }()
	for begun := time.Now(); time.Since(begun) < stopped+2*time.Second; {
		require.NoError(t, c.Ping(t.Context()))
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Printf("\nconnections %d\n", dials.Load())
	<-ended
	require.NoError(t, c.Close())
}

// The client's process stands still for 5 s, with a server that does not mind: its clock wakes up far too late, blames itself, and
// the connection stays.
func TestAClientThatStandsStill(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go patient(nc)
		}
	}()
	p, lines := process(t, "TestClientProcess", "tcp://"+l.Addr().String())
	line(t, lines, "connected")
	time.Sleep(200 * time.Millisecond) // into the middle of it
	stop(t, p)
	require.Equal(t, "1", line(t, lines, "connections "))
}

// patient answers what a client asks that only wants to know whether it is there.
func patient(nc net.Conn) {
	defer func() { _ = nc.Close() }()
	answers := map[messages.Command]messages.Command{
		messages.IdentifyClient:   messages.ClientIdentified,
		messages.HeartbeatRequest: messages.HeartbeatResponse,
		messages.Ping:             messages.Pong,
	}
	r := messages.NewReader(nc, 1<<10)
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		b, _ := messages.AppendFrame(nil, f.ID, nil, messages.Raw(answers[f.Command], nil))
		if _, err := nc.Write(b); err != nil {
			return
		}
	}
}

// Appends of 60 MB go over loopback beside pings: the connection stays. A machine that stands still for longer than
// heartbeats take says nothing about them, so it is tried again there.
func TestHeartbeatsBesideLargeAppends(t *testing.T) {
	for range 5 {
		if largeAppends(t) {
			return
		}
	}
	t.Fatal("this machine stood still each time")
}

// largeAppends reports whether time went on all the time.
func largeAppends(t *testing.T) bool {
	t.Helper()
	srv, err := server.Start(server.Config{TCP: "127.0.0.1:0"})
	require.NoError(t, err)
	defer func() { require.NoError(t, srv.Close()) }()
	var dials atomic.Int64
	var log bytes.Buffer // written by one goroutine at a time: the handler has a lock
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := eventstore.Connect(ctx, srv.URL(), counting(&dials), eventstore.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	data := make([]byte, 15<<20)
	for range 2 {
		var events []eventstore.EventData
		for range 4 {
			events = append(events, eventstore.EventData{Type: "large", Data: data})
		}
		p := c.AppendAsync(ctx, stream, eventstore.Any, events)
		require.NoError(t, c.Ping(ctx))
		_, err := p.Wait(ctx)
		require.NoError(t, err)
	}
	require.NoError(t, c.Close()) // nobody writes to the log any more
	if strings.Contains(log.String(), "stood still") {
		t.Log("this machine stood still:\n" + log.String())
		return false
	}
	require.EqualValues(t, 1, dials.Load(), log.String())
	return true
}
