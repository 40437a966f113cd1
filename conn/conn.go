// Package conn is one live connection to one server: dial, handshake, heartbeats, the table of who waits for what, and
// writes that travel together. It is never repaired: when it ends, for whatever cause, everybody who waits is told the
// first cause, and whoever owns it dials another.
//
// Three goroutines belong to a connection and end with it. The read loop cuts frames and hands each to its waiter; it
// waits for nobody. The write loop owns the bytes on their way out, but for the few that Flush gets rid of. The clock watches the silence of the peer and the
// time limit of each call.
//
// States: dialling (Dial has not returned), live, ended. Dial returns a live connection or an error. live -> ended is
// made once, by end, called by the first of: an error of the socket, bytes that are no frame, a BadRequest that names no
// call, a heartbeat that was not answered, or Close. From then on Start and Send refuse; then the read loop, which is the only
// one to deliver, tells each waiter; then Done is closed.
package conn

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

var (
	// ErrLost is in the cause of every end but Close: the connection went while it was in use.
	ErrLost = errors.New("connection lost")
	// ErrClosed is the cause of an end by Close.
	ErrClosed = errors.New("connection closed")
	// ErrTimeout says that one attempt of a call had no answer within Config.Timeout.
	ErrTimeout = errors.New("no answer from the server in time")
	// ErrAnswerTooLarge says that the answer to a request is larger than a frame may be. It ends the connection, and to every
	// other request that is all it does.
	ErrAnswerTooLarge = errors.New("the answer is larger than a frame")
	// ErrHeartbeatTimeout says that the peer was silent and did not answer a heartbeat either.
	ErrHeartbeatTimeout = errors.New("the server did not answer a heartbeat")
	// ErrRefused says that the peer does not speak this protocol the way it was addressed: HTTP, TLS where the
	// connection is plain, or plain where it is TLS. Dialling it again is no use.
	ErrRefused = errors.New("not an EventStore TCP port for this kind of connection")
)

// Config says how to dial and how long to wait. All durations must be positive.
type Config struct {
	Addr              string                                                            // host:port
	Dial              func(ctx context.Context, network, addr string) (net.Conn, error) // nil: a net.Dialer
	TLS               *tls.Config                                                       // nil: plain
	Name              string                                                            // sent to the server, which shows it in its statistics
	Timeout           time.Duration                                                     // of one attempt of a call, and of the handshake
	HeartbeatInterval time.Duration                                                     // silence after which the peer is asked for life
	HeartbeatTimeout  time.Duration                                                     // and then this long to show some
	Logger            *slog.Logger                                                      // nil: none
	// OnHeartbeat is told how long a heartbeat took to be answered, OnLate of a frame that nobody waits for. Both are called
	// from the connection's own goroutines and must not block.
	OnHeartbeat func(roundTrip time.Duration)
	OnLate      func(command messages.Command, size int)
}

// Conn is one live connection. All methods are safe for concurrent use.
type Conn struct {
	cfg       Config
	nc        net.Conn
	direct    *direct // for Flush; nil: nc is nothing that can be written to without waiting
	log       *slog.Logger
	numbers32 bool // the server is older than IdentifyClient

	epoch time.Time     // what heard and the deadlines count from
	heard atomic.Int64  // when the last byte came, since epoch
	turns atomic.Uint64 // of the read loop, between waiting for bytes, when it is odd, and serving what came
	late  atomic.Int64  // frames that nobody waited for any more

	// How the write loop gets on, times since epoch.
	written atomic.Int64 // bytes of the outbox's total
	writing atomic.Int64 // when the write under way began; 0: none is
	bulk    atomic.Int64 // when a whole chunk was last taken
	beat    atomic.Int64 // when a HeartbeatRequest was last written

	sent, received atomic.Int64 // bytes
	asked          atomic.Int64 // when the last heartbeat was sent, since epoch; 0: it is answered
	roundTrip      atomic.Int64 // of the last heartbeat, or of the handshake

	stop chan struct{} // closed by end
	done chan struct{} // closed when all three goroutines have returned
	loop sync.WaitGroup

	mu    sync.Mutex // guards what follows; never held while waiting or calling out
	cause error      // why it ended, nil while live
	table table
	out   outbox
}

// Dial connects and identifies the client. It ends when ctx does, or after cfg.Timeout for each of connect, TLS and
// identification.
func Dial(ctx context.Context, cfg Config) (*Conn, error) {
	nc, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Addr, err)
	}
	c := &Conn{
		cfg:    cfg,
		nc:     nc,
		direct: newDirect(nc),
		log:    cfg.Logger,
		epoch:  time.Now().Add(-time.Nanosecond), // so that no time since then is 0
		stop:   make(chan struct{}),
		done:   make(chan struct{}),
	}
	c.table = newTable()
	c.out.wake = make(chan struct{}, 1)
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if _, err := rand.Read(c.table.prefix[:]); err != nil {
		_ = nc.Close()
		return nil, fmt.Errorf("make correlation ids: %w", err)
	}
	c.loop.Go(c.readLoop)
	c.loop.Go(c.writeLoop)
	c.loop.Go(c.clock)
	go func() {
		c.loop.Wait()
		close(c.done)
	}()
	if err := c.identify(ctx); err != nil {
		c.end(ErrClosed)
		<-c.done
		return nil, fmt.Errorf("connect to %s: %w", cfg.Addr, err)
	}
	return c, nil
}

// end keeps the first cause and stops everything. It does not wait.
func (c *Conn) end(cause error) {
	c.mu.Lock()
	first := c.cause == nil
	if first {
		c.cause = cause
	}
	c.mu.Unlock()
	if first {
		close(c.stop)
		_ = c.nc.Close()
	}
}

// lost ends the connection with a cause that wraps ErrLost and names the address.
func (c *Conn) lost(cause error) { c.end(fmt.Errorf("%w: %s: %w", ErrLost, c.cfg.Addr, cause)) }

// Close ends the connection and returns when its goroutines have. A Waiter must not call it.
func (c *Conn) Close() {
	c.end(ErrClosed)
	<-c.done
}

// Done is closed after the last waiter was told and the last goroutine has returned.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err is the first cause of the end, nil while the connection lives.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Addr is the address that was dialled.
func (c *Conn) Addr() string { return c.cfg.Addr }

// Numbers32 reports that the server did not know IdentifyClient: it is older than 3.9.4, and its event numbers are
// 32-bit, with messages.DeletedNumber32 for the number of a tombstone.
func (c *Conn) Numbers32() bool { return c.numbers32 }

// LateFrames counts the frames that came when nobody waited for them any more.
func (c *Conn) LateFrames() int64 { return c.late.Load() }

// Bytes counts what was written to the socket and read from it, inside of TLS.
func (c *Conn) Bytes() (sent, received int64) { return c.sent.Load(), c.received.Load() }

// RoundTrip is how long the last heartbeat took to be answered, or the handshake's request when there was none yet.
func (c *Conn) RoundTrip() time.Duration { return time.Duration(c.roundTrip.Load()) }

// Heard is when the last byte came.
func (c *Conn) Heard() time.Time { return c.epoch.Add(time.Duration(c.heard.Load())) }

// Retire ends the connection for a cause, as lost, when the calls that wait have been answered, after Config.Timeout, or when
// ctx ends. It returns when its goroutines have.
func (c *Conn) Retire(ctx context.Context, cause error) {
	overall := time.NewTimer(c.cfg.Timeout)
	defer overall.Stop()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for busy := true; busy; {
		select {
		case <-look.C:
			c.mu.Lock()
			busy = c.table.calls > 0
			c.mu.Unlock()
		case <-overall.C:
			busy = false
		case <-ctx.Done():
			busy = false
		case <-c.done:
			return
		}
	}
	c.lost(cause)
	<-c.done
}

// now is the time since epoch.
func (c *Conn) now() time.Duration { return time.Since(c.epoch) }

// identified is told of the answer to IdentifyClient.
type identified chan error

func (w identified) Reply(command messages.Command, _ []byte) {
	switch command {
	case messages.ClientIdentified:
		w <- nil
	case messages.BadRequest:
		w <- errOlder
	default:
		w <- fmt.Errorf("%w: IdentifyClient was answered by %s", messages.ErrMalformed, command)
	}
}

func (w identified) End(err error) { w <- err }
