package main

// limitWritten is the answer to an append.
type limitWritten struct {
	result                                uint64
	message                               []byte
	first, last, prepare, commit, current int64
}

// limitPage is the answer to a read, without its events.
type limitPage struct {
	result           uint64
	next, last       int64
	endOfStream      uint64
	lastCommit       int64
	message          []byte
	events, unwanted int
}

// limitEvent is an event of a page. What it has of bytes is in the page's memory.
type limitEvent struct {
	stream, kind, data, metadata []byte
	number                       int64
	id                           [eventIDSize]byte
	dataType, metadataType       uint64
	created, epoch               int64
}

// field reads the field at the front of b: of its two values the one that its type has.
func field(b []byte) (num byte, v uint64, bytes, rest []byte, ok bool) {
	if len(b) < 2 {
		return 0, 0, nil, nil, false
	}
	num, kind := b[0]>>3, b[0]&7
	if b[1] < 0x80 {
		v, b = uint64(b[1]), b[2:]
	} else {
		n := 1
		for shift := 0; ; shift += 7 {
			if n == len(b) || n > 10 {
				return 0, 0, nil, nil, false
			}
			v |= uint64(b[n]&0x7f) << shift
			n++
			if b[n-1] < 0x80 {
				break
			}
		}
		b = b[n:]
	}
	if kind == 0 {
		return num, v, nil, b, true
	}
	if kind != 2 || v > uint64(len(b)) {
		return 0, 0, nil, nil, false
	}
	return num, 0, b[:v:v], b[v:], true
}

func (a *limitWritten) decode(b []byte) error {
	for len(b) > 0 {
		num, v, bytes, rest, ok := field(b)
		if !ok {
			return errLimit
		}
		b = rest
		switch num {
		case 1:
			a.result = v
		case 2:
			a.message = bytes
		case 3:
			a.first = int64(v)
		case 4:
			a.last = int64(v)
		case 5:
			a.prepare = int64(v)
		case 6:
			a.commit = int64(v)
		case 7:
			a.current = int64(v)
		}
	}
	return nil
}

// decode appends the page's events to into.
func (p *limitPage) decode(b []byte, into []limitEvent) ([]limitEvent, error) {
	for len(b) > 0 {
		num, v, bytes, rest, ok := field(b)
		if !ok {
			return into, errLimit
		}
		b = rest
		switch num {
		case 1:
			for len(bytes) > 0 {
				num, _, record, rest, ok := field(bytes)
				if !ok {
					return into, errLimit
				}
				bytes = rest
				if num != 1 { // a link: there is none in what is read here
					p.unwanted++
					continue
				}
				into = append(into, limitEvent{})
				if !into[len(into)-1].decode(record) {
					return into, errLimit
				}
			}
			p.events++
		case 2:
			p.result = v
		case 3:
			p.next = int64(v)
		case 4:
			p.last = int64(v)
		case 5:
			p.endOfStream = v
		case 6:
			p.lastCommit = int64(v)
		case 7:
			p.message = bytes
		}
	}
	return into, nil
}

func (e *limitEvent) decode(b []byte) bool {
	for len(b) > 0 {
		num, v, bytes, rest, ok := field(b)
		if !ok {
			return false
		}
		b = rest
		switch num {
		case 1:
			e.stream = bytes
		case 2:
			e.number = int64(v)
		case 3:
			if len(bytes) != eventIDSize {
				return false
			}
			e.id = [eventIDSize]byte(bytes)
		case 4:
			e.kind = bytes
		case 5:
			e.dataType = v
		case 6:
			e.metadataType = v
		case 7:
			e.data = bytes
		case 8:
			e.metadata = bytes
		case 9:
			e.created = int64(v)
		case 10:
			e.epoch = int64(v)
		}
	}
	return true
}
