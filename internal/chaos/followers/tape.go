package followers

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/subscription"
)

// verb is what an entry of the tape tells.
type verb string

const (
	begins    verb = "begins"  // to follow from place
	handed    verb = "gets"    // events, to handle
	finished  verb = "handled" // events
	failed    verb = "failed"  // to handle events
	saves     verb = "saves"   // place: it asks the store to
	saved     verb = "saved"   // place: the store has
	told      verb = "hears"   // notice
	missed    verb = "missed"  // count events until place, and was told so
	ended     verb = "ends"    // and why
	owns      verb = "owns"    // the name from here on
	rests     verb = "rests"   // with place as its checkpoint, until
	resumes   verb = "resumes"
	patched   verb = "was patched" // up to place, which was to be from
	replays   verb = "replays"     // the event before place, which
	replayed  verb = "has replayed"
	refuses   verb = "refuses to replay"
	happened  verb = "happened"  // what the plan does
	truncates verb = "truncates" // what is before place
)

// entry is a line of the tape.
type entry struct {
	at     time.Duration
	leg    *Leg // nil for what the plan does
	verb   verb
	place  eventstore.From
	from   eventstore.From // of what was missed, or up to where a patch was to go
	events []sight
	notice subscription.Kind
	count  int64
	since  time.Duration
	text   string
	acked  int // how many wanted events were written by then
}

// sight is an event as it was seen.
type sight struct {
	behind eventstore.From
	stream string // of the event itself
	text   string
	data   string // of the event itself
	ours   bool   // the plan has written it
}

func see(e eventstore.ResolvedEvent) sight {
	s := sight{behind: e.Checkpoint(), ours: ours(e)}
	for _, record := range []*eventstore.Event{e.Link, e.Event} {
		if record != nil {
			s.stream, s.data = record.Stream, string(record.Data)
			s.text += fmt.Sprintf("%d@%s %s %s ", record.Number, record.Stream, record.Type, record.Data)
		}
	}
	return s
}

// tape is what happened, in order.
type tape struct {
	mu      sync.Mutex // guards what follows
	begun   time.Time
	entries []entry
	acked   int
	changed chan struct{} // closed at the next entry
	legs    int
}

func newTape() *tape { return &tape{begun: time.Now(), changed: make(chan struct{})} }

func (t *tape) add(e entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(e)
}

func (t *tape) put(e entry) {
	e.at, e.acked = time.Since(t.begun), t.acked
	e.events = slices.Clone(e.events)
	t.entries = append(t.entries, e)
	close(t.changed)
	t.changed = make(chan struct{})
}

// says waits until something in the tape is as wanted, and reports whether it was in time.
func (t *tape) says(limit time.Duration, wanted func([]entry) bool) bool {
	late := time.After(limit)
	for {
		t.mu.Lock()
		ok, changed := wanted(t.entries), t.changed
		t.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-late:
			return false
		}
	}
}

func (t *tape) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, e := range t.entries {
		fmt.Fprintf(&b, "%12v ", e.at)
		if e.leg != nil {
			fmt.Fprintf(&b, "%s ", e.leg)
		}
		b.WriteString(string(e.verb))
		switch e.verb {
		case handed, finished, failed:
			for _, s := range e.events {
				fmt.Fprintf(&b, " [%v: %s]", s.behind, strings.TrimSpace(s.text))
			}
		case begins, saves, saved, rests, patched, replays, replayed, refuses:
			fmt.Fprintf(&b, " %v", e.place)
		case told:
			fmt.Fprintf(&b, " %v at %v", e.notice, e.place)
		case missed:
			fmt.Fprintf(&b, " %d from %v until %v", e.count, e.from, e.place)
		default:
		}
		if e.text != "" {
			b.WriteString(" " + e.text)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// Leg is a follower's way from one place on, until it ends or begins again somewhere. What it tells goes to the tape, unless its
// process is dead.
type Leg struct {
	life   *Life
	name   string // whose place in the source it moves
	number int
	leased time.Duration // when it had got its lease, if there is one
	only   string        // it is to get the events of this stream alone; "" is all
	aside  bool          // it is beside that of a listener, which may rest
}

// wants reports whether it is to get an event.
func (l *Leg) wants(s sight) bool { return l.only == "" || s.stream == l.only }

// String names it and who goes it.
func (l *Leg) String() string {
	return fmt.Sprintf("%s (%s, leg %d)", l.name, l.life.name, l.number)
}

func (l *Leg) tell(e entry) {
	t := l.life.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	if !l.life.isDead() {
		e.leg = l
		t.put(e)
		if e.verb == finished || e.verb == begins {
			l.life.process.remember(l.name, e.place)
		}
	}
}

// Notice tells of a notice; it is a Config.OnNotice.
func (l *Leg) Notice(n subscription.Notice) {
	text := ""
	if n.Err != nil {
		text = n.Err.Error()
	}
	l.tell(entry{verb: told, notice: n.Kind, place: n.Checkpoint, text: text})
}

// Missed tells of events that were dropped, as the follower says itself.
func (l *Leg) Missed(count int64, from, until eventstore.From) {
	l.tell(entry{verb: missed, count: count, from: from, place: until})
}

// Ended tells that the leg is over.
func (l *Leg) Ended(why string) { l.tell(entry{verb: ended, text: why}) }
