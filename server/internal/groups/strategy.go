package groups

import "slices"

// strategy chooses which consumer gets an event.
type strategy interface {
	add(c *Consumer)
	remove(c *Consumer)
	// choose returns a consumer with a free slot, of which there is one, or nil when the event has to wait for another.
	choose(e *Event) *Consumer
	// freed says that an event has left its slot.
	freed(c *Consumer, e *Event)
}

func newStrategy(name string) strategy {
	switch name {
	case DispatchToSingle:
		return &line{stay: true}
	case Pinned:
		return &pinned{source: sourceStream}
	case PinnedByCorrelation:
		return &pinned{source: correlation}
	default:
		return new(line)
	}
}

// line is RoundRobin, where a consumer goes to the end of the line with each event, or DispatchToSingle, where it stays in
// front until it is full.
type line struct {
	consumers []*Consumer // a ring
	front     int
	stay      bool
}

func (l *line) add(c *Consumer) {
	if l.front == 0 {
		l.consumers = append(l.consumers, c)
		return
	}
	l.consumers = slices.Insert(l.consumers, l.front, c)
	l.front++
}

func (l *line) remove(c *Consumer) {
	i := slices.Index(l.consumers, c)
	if i < 0 {
		return
	}
	l.consumers = slices.Delete(l.consumers, i, i+1)
	if i < l.front {
		l.front--
	}
	if l.front == len(l.consumers) {
		l.front = 0
	}
}

func (l *line) choose(*Event) *Consumer {
	for range l.consumers {
		c := l.consumers[l.front]
		room := c.free() > 0
		if !room || !l.stay {
			l.front = (l.front + 1) % len(l.consumers)
		}
		if room {
			return c
		}
	}
	return nil
}

func (l *line) freed(*Consumer, *Event) {}
