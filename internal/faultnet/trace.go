package faultnet

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// traceLength is how many entries are remembered.
const traceLength = 256

// trace remembers what happened last.
type trace struct {
	start time.Time

	mu      sync.Mutex // guards what follows
	entries [traceLength]entry
	count   int
	fired   int
}

// entry is a fault, or something else that is told in words.
type entry struct {
	at     time.Duration
	conn   int
	text   string // else:
	fault  Fault
	offset int64
	frame  int // 0: frames are not known any more
	pos    int64
}

func (t *trace) add(e entry) {
	e.at = time.Since(t.start)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.entries[t.count%traceLength] = e
	t.count++
	if e.fault.Kind != 0 {
		t.fired++
	}
}

func (t *trace) note(conn int, text string) { t.add(entry{conn: conn, text: text}) }

func (t *trace) faults() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.fired
}

// String lists what is remembered, the oldest first.
func (t *trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := max(t.count-traceLength, 0)
	var b strings.Builder
	fmt.Fprintf(&b, "%d faults happened; the last %d of %d entries:", t.fired, t.count-first, t.count)
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
	fmt.Fprintf(b, "%s, byte %d", e.fault.At.Dir, e.offset)
	if e.frame > 0 {
		fmt.Fprintf(b, ", frame %d + %d", e.frame, e.pos)
	}
	fmt.Fprintf(b, ": %s", e.fault)
}
