package eventstore

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/cluster"
	"github.com/goeventstore/eventstore/messages"
)

// Option configures a client. All options are checked together by Connect.
type Option interface{ apply(*options) }

type options struct {
	user, password    string
	supply            func(ctx context.Context) (user, password string, err error)
	tls               *tls.Config
	secure            secure // what the target says of TLS; tls beats it
	name              string
	logger            *slog.Logger
	timeout           time.Duration
	heartbeatInterval time.Duration
	heartbeatTimeout  time.Duration
	maxAttempts       int
	backoff           func() backoff.BackOff
	maxInFlight       int
	maxInFlightBytes  int
	queued            int // how many may wait; -1: any number
	failFast          bool
	readOnly          bool
	authenticate      bool
	requireLeader     *bool // nil: if the preference is the leader
	preference        cluster.Preference
	gossipScheme      string // "": https with TLS, else http
	gossipTimeout     time.Duration
	resolver          cluster.Resolver
	translate         func(advertised string) (addr string, err error)
	lookup            func(ctx context.Context, host string) ([]string, error)
	lookupSRV         func(ctx context.Context, name string) ([]*net.SRV, error)
	hooks             hooks
	dial              func(ctx context.Context, network, addr string) (net.Conn, error)
}

type option func(*options)

func (o option) apply(to *options) { o(to) }

// WithCredentials sets the login and password that every request carries unless the call has its own (As). They beat those
// in the target. Without any, requests are anonymous.
func WithCredentials(user, password string) Option {
	return option(func(o *options) { o.user, o.password = user, password })
}

// WithCredentialsFunc has the client ask for its login and password anew: before each connection, and when the server no
// longer accepts those that it has; a call that was refused is then sent again once, if they are others. Two empty strings are
// anonymous. An error fails the attempt to connect, or the call. The function may be called from several goroutines
// at once. It beats WithCredentials and the target.
func WithCredentialsFunc(f func(ctx context.Context) (user, password string, err error)) Option {
	return option(func(o *options) {
		o.supply = f
		if f == nil {
			o.supply = func(context.Context) (string, string, error) { return "", "", errors.New("WithCredentialsFunc(nil)") }
		}
	})
}

// WithAuthenticate has the client check its credentials when it connects: Connect then fails with ErrNotAuthenticated on wrong
// ones. A server that was just started does not know its users yet, so that a refusal counts when it was repeated for 3 s.
// Default: the first call tells.
func WithAuthenticate() Option { return option(func(o *options) { o.authenticate = true }) }

// WithTLS connects over TLS, from the first byte and to a port that speaks it, and asks for gossip over HTTPS. There is no
// falling back to plain. The server name defaults to the host that is dialled, the lowest version to TLS 1.2. It beats
// the target's keys for TLS, but for gossip=http. Default: plain, unless the target says otherwise.
func WithTLS(c *tls.Config) Option {
	return option(func(o *options) { o.tls = c })
}

// WithName sets the connection name that the server shows in its statistics. Default: the program's name.
func WithName(name string) Option { return option(func(o *options) { o.name = name }) }

// WithLogger has the client log its connection changes and retries. Default: no log. Data and passwords are never logged.
func WithLogger(l *slog.Logger) Option { return option(func(o *options) { o.logger = l }) }

// WithTimeout sets how long one attempt of a call may wait for its answer before it is sent again or given up, and how
// long connecting may take. Default: 7 s. The context of a call bounds all its attempts together.
func WithTimeout(d time.Duration) Option { return option(func(o *options) { o.timeout = d }) }

// WithHeartbeat sets the silence after which the server is asked for a sign of life, and how long it may take to give one
// before the connection is replaced. Default: 2 s and 1.5 s. Their sum is also how often a client of a cluster that prefers the leader
// asks whether its node still leads.
func WithHeartbeat(interval, timeout time.Duration) Option {
	return option(func(o *options) { o.heartbeatInterval, o.heartbeatTimeout = interval, timeout })
}

// WithMaxAttempts bounds how often a call is sent. Default: 0, no bound but the call's context.
func WithMaxAttempts(n int) Option { return option(func(o *options) { o.maxAttempts = n }) }

// WithBackoff sets the waits between attempts to connect, and before a call is sent again to a server that was not ready.
// The function is called for each sequence of waits. A sequence that ends (backoff.Stop) ends the call, but not the
// reconnecting, which goes on with a new sequence. Default: 100 ms, doubling to 5 s, with jitter of a half.
func WithBackoff(f func() backoff.BackOff) Option { return option(func(o *options) { o.backoff = f }) }

// WithMaxInFlight bounds how many calls are under way at once; further ones wait for a place until their context ends.
// Default: 5,000.
func WithMaxInFlight(n int) Option { return option(func(o *options) { o.maxInFlight = n }) }

// WithMaxInFlightBytes bounds the bytes of the appends that are under way at once: data, metadata and types. Further appends
// wait for room until their context ends, without being in the way of reads. One that is larger goes alone. Default: 64 MiB.
func WithMaxInFlightBytes(n int) Option { return option(func(o *options) { o.maxInFlightBytes = n }) }

// WithQueue bounds how many calls may wait, for a place in flight or for a connection: one more fails with ErrQueueFull. A
// call that was sent before, and is to be sent again, always finds room. Default: any number waits.
func WithQueue(n int) Option { return option(func(o *options) { o.queued = n }) }

// WithFailFast has calls fail with ErrDisconnected while there is no connection, and when it is lost under them. Open, and with it
// subscriptions, waits all the same. Default: calls wait for the next connection until their context ends.
func WithFailFast() Option { return option(func(o *options) { o.failFast = true }) }

// WithReadOnly has everything that may change something on the server fail with ErrReadOnly, unsent. Reads and subscriptions
// work, and so does acknowledging what a persistent subscription delivers.
func WithReadOnly() Option { return option(func(o *options) { o.readOnly = true }) }

// WithResolver sets who says which node to dial, before each attempt. The target's address is then not used, all else of
// it is. One that has the methods Leader and Failed of *cluster.Gossip is one of a cluster: it is asked for the leader when a node
// does not lead, and told of connections that fail. Default: made of the target.
func WithResolver(r cluster.Resolver) Option {
	return option(func(o *options) {
		o.resolver = r
		if r == nil {
			o.resolver = noResolver{}
		}
	})
}

// noResolver stands for WithResolver(nil), which is refused.
type noResolver struct{ cluster.Resolver }

// WithPreference sets which node of a cluster to connect to, if there is one of the kind. With any but cluster.Leader calls
// are answered by the node that gets them, unless RequireLeader says otherwise. Default: the leader.
func WithPreference(p cluster.Preference) Option {
	return option(func(o *options) { o.preference = p })
}

// WithAddressTranslation has the addresses, host:port, that the nodes of a cluster advertise translated to those where this client
// reaches them, for nodes behind NAT or in containers: in gossip, and where a node says that the leader is. An error refuses the
// address, which is then never dialled: without that, credentials go wherever gossip says. Seeds and a single node are dialled
// as they were given. The host as it is advertised is the one that a certificate must be for, and is shown in errors and states.
// The function may be called from several goroutines at once. Default: as advertised.
func WithAddressTranslation(f func(advertised string) (addr string, err error)) Option {
	return option(func(o *options) {
		o.translate = f
		if f == nil {
			o.translate = func(string) (string, error) { return "", errors.New("WithAddressTranslation(nil)") }
		}
	})
}

// WithLookup sets the functions that resolve the name of a target discover://, for its addresses and for SRV records; nil
// for these asks for none. The addresses of nodes are left to the dialer. Default: net.DefaultResolver.
func WithLookup(
	host func(ctx context.Context, host string) (addrs []string, err error),
	srv func(ctx context.Context, name string) ([]*net.SRV, error),
) Option {
	return option(func(o *options) {
		o.lookup, o.lookupSRV = host, srv
		if host == nil {
			o.lookup = func(context.Context, string) ([]string, error) { return nil, errors.New("WithLookup(nil)") }
		}
	})
}

// WithRequireLeader sets what calls say that have no option RequireLeader. Default: true if the preference is the leader.
func WithRequireLeader(yes bool) Option { return option(func(o *options) { o.requireLeader = &yes }) }

// WithDialer sets the function that opens the sockets, for proxies and networks in memory; it is used for gossip too.
// Default: a net.Dialer.
func WithDialer(dial func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return option(func(o *options) { o.dial = dial })
}

func defaultOptions() options {
	return options{
		name:              filepath.Base(os.Args[0]),
		timeout:           7 * time.Second,
		heartbeatInterval: 2 * time.Second,
		heartbeatTimeout:  1500 * time.Millisecond,
		backoff:           defaultBackoff,
		maxInFlight:       5000,
		maxInFlightBytes:  64 << 20,
		queued:            -1,
		gossipTimeout:     time.Second,
		logger:            slog.New(slog.DiscardHandler),
	}
}

func defaultBackoff() backoff.BackOff { return doubling(100 * time.Millisecond) }

func doubling(first time.Duration) backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(first),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxInterval(max(first, 5*time.Second)),
		backoff.WithMaxElapsedTime(0), // the library's default would end reconnecting after 15 minutes
	)
}

// login encodes a login for the wire; none is nil.
func login(user, password string) ([]byte, error) {
	if user == "" && password == "" {
		return nil, nil
	}
	b, err := messages.AppendCredentials(nil, user, password)
	if err != nil {
		return nil, argument("credentials: %w", err)
	}
	return b, nil
}

func (o *options) check() error {
	switch {
	case o.timeout <= 0:
		return argument("WithTimeout(%v): want more than 0", o.timeout)
	case o.heartbeatInterval <= 0 || o.heartbeatTimeout <= 0:
		return argument("WithHeartbeat(%v, %v): want more than 0", o.heartbeatInterval, o.heartbeatTimeout)
	case o.maxAttempts < 0:
		return argument("WithMaxAttempts(%d): want 0 for no bound, or more", o.maxAttempts)
	case o.maxInFlight < 1:
		return argument("WithMaxInFlight(%d): want at least 1", o.maxInFlight)
	case o.maxInFlightBytes < 1:
		return argument("WithMaxInFlightBytes(%d): want at least 1", o.maxInFlightBytes)
	case o.queued < -1:
		return argument("WithQueue(%d): want 0 for no waiting at all, or more", o.queued)
	case o.preference < cluster.Leader || o.preference > cluster.Random:
		return argument("WithPreference(%v): there is no such", o.preference)
	case o.resolver == noResolver{}:
		return argument("WithResolver(nil): want a resolver")
	case o.authenticate && o.supply == nil && o.user == "" && o.password == "":
		return argument("WithAuthenticate: there are no credentials to check")
	case o.hooks.err != nil:
		return o.hooks.err
	case o.backoff == nil:
		return argument("WithBackoff(nil): want a function")
	case o.logger == nil:
		return argument("WithLogger(nil): leave the option out for no log")
	case o.dial == nil:
		o.dial = (&net.Dialer{}).DialContext
	}
	return nil
}

// CallOption configures one call. Each is also a ReadOption.
type CallOption interface {
	ReadOption
	applyCall(*callOptions)
}

// ReadOption configures one read.
type ReadOption interface{ applyRead(*readOptions) }

type callOptions struct {
	credentials []byte
	anyNode     bool
	within      bool // the call belongs to an operation that has a place in flight
	err         error
}

type readOptions struct {
	callOptions
	backward bool
	limit    int64
	pageSize int32
	rawLinks bool
	borrowed bool
	filter   *Filter
	err      error
}

type callOption func(*callOptions)

func (f callOption) applyCall(o *callOptions) { f(o) }
func (f callOption) applyRead(o *readOptions) { f(&o.callOptions) }

type readOption func(*readOptions)

func (f readOption) applyRead(o *readOptions) { f(o) }

// As makes the call with these credentials instead of the client's.
func As(user, password string) CallOption {
	b, err := messages.AppendCredentials(nil, user, password)
	return callOption(func(o *callOptions) {
		o.credentials = b
		if err != nil {
			o.err = argument("As: %w", err)
		}
	})
}

// RequireLeader says whether only the leader of a cluster may answer (the default), or the node that gets the request may
// do so from its own copy, or by passing a write on.
func RequireLeader(yes bool) CallOption {
	return callOption(func(o *callOptions) { o.anyNode = !yes })
}

// Backward reads from newer to older events.
func Backward() ReadOption { return readOption(func(o *readOptions) { o.backward = true }) }

// Limit ends a sequence after n events, more than 0. Default: no limit.
func Limit(n int64) ReadOption {
	return readOption(func(o *readOptions) {
		o.limit = n
		if n < 1 {
			o.err = argument("Limit(%d): want at least 1", n)
		}
	})
}

// MaxPageSize is the largest page that servers answer.
const MaxPageSize = 4096

// PageSize sets how many events are fetched at a time, 1 to MaxPageSize. Default: 500.
func PageSize(n int) ReadOption {
	return readOption(func(o *readOptions) {
		if n < 1 || n > MaxPageSize {
			o.err = argument("PageSize(%d): want 1 to %d", n, MaxPageSize)
			return
		}
		o.pageSize = int32(n)
	})
}

// RawLinks delivers links as they are. Default: they are resolved to their targets.
func RawLinks() ReadOption { return readOption(func(o *readOptions) { o.rawLinks = true }) }

// lookUp is for the reads that an operation makes on its way, with the options that it was called with.
func lookUp(opts []CallOption, more ...ReadOption) []ReadOption {
	within := readOption(func(o *readOptions) { o.within = true })
	return append(append(ReadOptions(opts), within), more...)
}

// ReadOptions makes read options of call options, for packages that pass a caller's on.
func ReadOptions(opts []CallOption) []ReadOption {
	if len(opts) == 0 {
		return nil
	}
	out := make([]ReadOption, len(opts))
	for i, o := range opts {
		out[i] = o
	}
	return out
}

// perCall is what a call is made with when it has no options.
func (c *Client) perCall() callOptions {
	return callOptions{credentials: c.login(), anyNode: c.anyNode}
}

// callOptions costs nothing without options: only those make the result escape.
func (c *Client) callOptions(opts []CallOption) (callOptions, error) {
	if len(opts) == 0 {
		return c.perCall(), nil
	}
	o := c.perCall()
	for _, opt := range opts {
		opt.applyCall(&o)
	}
	return o, o.err
}

const defaultPageSize = 500

func (c *Client) readOptions(opts []ReadOption) (readOptions, error) {
	if len(opts) == 0 {
		return readOptions{callOptions: c.perCall(), pageSize: defaultPageSize}, nil
	}
	o := readOptions{callOptions: c.perCall(), pageSize: defaultPageSize}
	for _, opt := range opts {
		opt.applyRead(&o)
	}
	if o.err != nil {
		return o, o.err
	}
	return o, o.callOptions.err
}
