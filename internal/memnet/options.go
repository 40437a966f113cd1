package memnet

const (
	defaultBuffer  = 64 << 10
	defaultBacklog = 128
)

// Option changes how connections are made; see [New] and [Pipe].
type Option interface{ apply(*config) }

type config struct {
	buffer  int
	backlog int
}

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

func newConfig(opts []Option) config {
	c := config{buffer: defaultBuffer, backlog: defaultBacklog}
	for _, o := range opts {
		o.apply(&c)
	}
	return c
}

// WithBuffer sets how many bytes one direction of a connection holds before a Write waits for the peer's Read. The
// default, also for a value below 1, is 64 KiB. Memory is taken as bytes are written, not ahead.
func WithBuffer(bytes int) Option {
	return optionFunc(func(c *config) {
		if bytes < 1 {
			bytes = defaultBuffer
		}
		c.buffer = bytes
	})
}

// WithBacklog sets how many connections of one listener may wait for Accept before Dial waits. The default, also for a
// value below 1, is 128. [Pipe] ignores it.
func WithBacklog(conns int) Option {
	return optionFunc(func(c *config) {
		if conns < 1 {
			conns = defaultBacklog
		}
		c.backlog = conns
	})
}
