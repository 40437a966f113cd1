package eventstoretest

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/goeventstore/eventstore/messages"
)

// traceLength is how many frames and events of connections are remembered.
const traceLength = 64

// trace remembers what came to the proxy last, for the log of a test that failed. Bodies are not in it.
type trace struct {
	start time.Time

	mu      sync.Mutex // guards what follows
	entries [traceLength]entry
	count   int
}

type entry struct {
	at         time.Duration
	conn       int    // 0: all
	text       string // an event of the connection; else a frame:
	fromServer bool
	number     int
	command    messages.Command
	id         messages.ID
	size       int
	fate       kind
}

// sides are the names of the two sides, by whether it is the server's.
var sides = map[bool]string{false: "client", true: "server"}

func (t *trace) add(e entry) {
	e.at = time.Since(t.start)
	t.mu.Lock()
	t.entries[t.count%traceLength] = e
	t.count++
	t.mu.Unlock()
}

func (t *trace) note(conn int, text string) { t.add(entry{conn: conn, text: text}) }

// String lists what is remembered, the oldest first.
func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := max(t.count-traceLength, 0)
	var b strings.Builder
	fmt.Fprintf(&b, "the proxy saw, the last %d of %d:", t.count-first, t.count)
	for i := first; i < t.count; i++ {
		b.WriteString("\n")
		t.entries[i%traceLength].write(&b)
	}
	return b.String()
}

func (e *entry) write(b *strings.Builder) {
	fmt.Fprintf(b, "%12v ", e.at.Round(time.Microsecond))
	if e.conn > 0 {
		fmt.Fprintf(b, "connection %d ", e.conn)
	}
	if e.text != "" {
		b.WriteString(e.text)
		return
	}
	fmt.Fprintf(b, "%s %d: %s %x, %d bytes", sides[e.fromServer], e.number, e.command, e.id, e.size)
	if e.fate != pass {
		b.WriteString(", " + kindNames[e.fate])
	}
}
