package eventstoretest_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
)

// The environment is for the tests that are about it: TestOpening writes to a stream that a shared server may have.
func TestMain(m *testing.M) {
	if err := os.Unsetenv(environment); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// networks are what a test of the proxy runs on, always with the embedded server: TCP, and memory.
var networks = map[string]func() eventstoretest.Option{
	"tcp":    eventstoretest.ForceEmbedded,
	"memory": eventstoretest.InMemory,
}

// tcp is the network of the operating system.
type tcp struct{}

func (tcp) Listen(network, addr string) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), network, addr)
}

func (tcp) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// raw is a connection without a client. A deadline guards it against hangs.
type raw struct {
	net.Conn
	r *messages.Reader
}

func dial(t *testing.T, srv *eventstoretest.Server, url string) *raw {
	t.Helper()
	target, err := eventstore.ParseTarget(url)
	require.NoError(t, err)
	c, err := srv.Dial(t.Context(), "tcp", target.Addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	return &raw{c, messages.NewReader(c, 4096)}
}

func id(n byte) messages.ID { return messages.ID{0: 0xEE, 15: n} }

func frame(t *testing.T, command messages.Command, id messages.ID, body string) []byte {
	t.Helper()
	b, err := messages.AppendFrame(nil, id, nil, messages.Raw(command, []byte(body)))
	require.NoError(t, err)
	return b
}

func (c *raw) write(t *testing.T, b []byte) {
	t.Helper()
	_, err := c.Write(b)
	require.NoError(t, err)
}

// ping sends a Ping whose number is its id and its body.
func (c *raw) ping(t *testing.T, n byte) {
	t.Helper()
	c.write(t, frame(t, messages.Ping, id(n), fmt.Sprint(n)))
}

// next returns the next frame that is no heartbeat.
func (c *raw) next() (messages.Frame, error) {
	for {
		f, err := c.r.Next()
		if err != nil || f.Command != messages.HeartbeatRequest {
			return f, err
		}
	}
}

func (c *raw) wantPong(t *testing.T, n byte) {
	t.Helper()
	c.want(t, messages.Pong, id(n), fmt.Sprint(n))
}

func (c *raw) want(t *testing.T, command messages.Command, id messages.ID, body string) {
	t.Helper()
	f, err := c.next()
	require.NoError(t, err)
	require.Equal(t, command, f.Command)
	require.Equal(t, id, f.ID)
	require.Equal(t, body, string(f.Body))
}

func (c *raw) wantEnd(t *testing.T) {
	t.Helper()
	_, err := c.next()
	require.ErrorIs(t, err, io.EOF)
}

// once gives a fault to the first frame of a command, and tells how many frames of it came.
func once(srv *eventstoretest.Server, command messages.Command, fault eventstoretest.Fault) (seen func() int) {
	var mu sync.Mutex
	count := 0
	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
		if f.Command != command {
			return eventstoretest.Pass
		}
		mu.Lock()
		defer mu.Unlock()
		if count++; count > 1 {
			return eventstoretest.Pass
		}
		return fault
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return count
	}
}

func appendOne(t *testing.T, c *eventstore.Client, stream string, expected eventstore.ExpectedVersion) {
	t.Helper()
	_, err := c.Append(t.Context(), stream, expected, []eventstore.EventData{{Type: "happened", Data: []byte("data")}})
	require.NoError(t, err)
}

// requireEvents looks past the proxy how many events a stream has.
func requireEvents(t *testing.T, srv *eventstoretest.Server, stream string, want int) {
	t.Helper()
	c, err := eventstore.Connect(t.Context(), srv.DirectURL(), eventstore.WithDialer(srv.Dial))
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	got := 0
	for _, err := range c.ReadStream(t.Context(), stream, eventstore.From{}) {
		require.NoError(t, err)
		got++
	}
	require.Equal(t, want, got)
}

// tb stands in for a test that fails: it keeps what it is told instead.
type tb struct {
	testing.TB
	fatal    string
	errors   []string
	logged   []string
	cleanups []func()
}

func (*tb) Helper() {}

func (t *tb) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }

func (t *tb) Failed() bool { return true }

func (t *tb) Fatalf(format string, args ...any) {
	t.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (t *tb) Errorf(format string, args ...any) {
	t.errors = append(t.errors, fmt.Sprintf(format, args...))
}

func (t *tb) Log(args ...any) { t.logged = append(t.logged, fmt.Sprint(args...)) }

// run runs f as a test of its own, cleanup included.
func (t *tb) run(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	<-done
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}

func (t *tb) log() string { return strings.Join(t.logged, "\n") }
