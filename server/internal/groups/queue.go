package groups

import "sort"

// item is an event that waits to be sent.
type item struct {
	Event
	again   *Message // when it was sent before
	retries int
}

// queue are items in an order.
type queue struct {
	items []item
	head  int // those before are sent
}

func (q *queue) len() int { return len(q.items) - q.head }

func (q *queue) at(i int) *item { return &q.items[q.head+i] }

func (q *queue) add(it item) {
	if q.head > 0 && len(q.items) == cap(q.items) && q.head >= len(q.items)/2 {
		q.compact()
	}
	q.items = append(q.items, it)
}

func (q *queue) compact() {
	n := copy(q.items, q.items[q.head:])
	clear(q.items[n:])
	q.items, q.head = q.items[:n], 0
}

// insert puts an item behind all whose subjects have the same or a lower number.
func (q *queue) insert(it item) {
	number := it.Subject().Number
	i := sort.Search(q.len(), func(i int) bool { return q.at(i).Subject().Number > number })
	if i == 0 && q.head > 0 {
		q.head--
		q.items[q.head] = it
		return
	}
	q.add(it)
	waiting := q.items[q.head:]
	copy(waiting[i+1:], waiting[i:])
	waiting[i] = it
}

// removeFirst takes the first n items out.
func (q *queue) removeFirst(n int) {
	clear(q.items[q.head : q.head+n])
	q.head += n
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
		if cap(q.items) > 4*mostRead {
			q.items = nil
		}
	}
}

// outcome is what became of an item that was offered.
type outcome uint8

const (
	sent outcome = iota
	skipped
	noRoom
)

// offer offers the items in their order, until there is no room for any, and takes out what was sent. It reports whether
// there may be room for more.
func (q *queue) offer(to func(*item) outcome) bool {
	kept, i := 0, 0
	room := true
	for ; i < q.len() && room; i++ {
		switch to(q.at(i)) {
		case sent:
		case skipped:
			*q.at(kept) = *q.at(i)
			kept++
		case noRoom:
			room = false
			i--
		}
	}
	if gone := i - kept; gone > 0 {
		copy(q.items[q.head+gone:q.head+i], q.items[q.head:q.head+kept]) // what was skipped closes up
		q.removeFirst(gone)
	}
	return room
}

// recent are the newest live events.
type recent struct {
	events []Event // a ring
	first  int
	n      int
	limit  int
}

func (r *recent) at(i int) *Event { return &r.events[(r.first+i)%len(r.events)] }

// add keeps an event aside; the oldest one gives way.
func (r *recent) add(e Event) {
	if r.limit <= 0 {
		return
	}
	if r.n == r.limit {
		r.drop()
	}
	if r.n == len(r.events) {
		grown := make([]Event, min(max(2*r.n, 16), r.limit))
		for i := range r.n {
			grown[i] = *r.at(i)
		}
		r.events, r.first = grown, 0
	}
	*r.at(r.n) = e
	r.n++
}

func (r *recent) drop() {
	*r.at(0) = Event{}
	r.first = (r.first + 1) % len(r.events)
	r.n--
}
