package faultnet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Direction is one of the two of a connection.
type Direction uint8

// The directions.
const (
	ToServer Direction = iota // from the end that dialled
	ToClient
)

var directionNames = [...]struct{ text, code string }{{"to-server", "ToServer"}, {"to-client", "ToClient"}}

// String returns to-server or to-client.
func (d Direction) String() string {
	if int(d) < len(directionNames) {
		return directionNames[d].text
	}
	return "Direction(" + strconv.Itoa(int(d)) + ")"
}

// Kind is what happens.
type Kind uint8

// The kinds of faults. The package comment tells what each end sees.
const (
	// Cut closes the connection: what is in front of the place is delivered, then both directions end.
	Cut Kind = iota + 1
	// Reset breaks the connection: what is under way in either direction is lost.
	Reset
	// HalfClose ends this direction only.
	HalfClose
	// Delay holds the byte at the place, and so all that follow, for Fault.Wait.
	Delay
	// Stall lets nothing pass any more in this direction until the client closes the connection.
	Stall
	// Swallow is Stall for a client that may go on writing: what it writes is lost. To the client it is Stall.
	Swallow
	// Duplicate passes a frame twice: that of the place, or the first one that starts at its byte or later. Where in the
	// frame the place is does not matter.
	Duplicate
	// Drip passes one byte at a time from the place on, with Fault.Wait between two, for Fault.Bytes bytes.
	Drip
)

var kindNames = [...]struct{ text, code string }{
	{"nothing", "Kind(0)"},
	{"cut", "Cut"},
	{"reset", "Reset"},
	{"half-close", "HalfClose"},
	{"delay", "Delay"},
	{"stall", "Stall"},
	{"swallow", "Swallow"},
	{"duplicate", "Duplicate"},
	{"drip", "Drip"},
}

// String returns the name in lower case.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k].text
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// At returns the fault of this kind at a place, for the kinds that need nothing else.
func (k Kind) At(p Place) Fault { return Fault{Kind: k, At: p} }

// Place is a byte of a connection. With Frame 0 it is the one with Byte others in front of it in the stream, else the
// one with Byte others in front of it in the frame; Byte 0 is the boundary before that frame. A Byte that the frame does
// not have is its last one.
type Place struct {
	Conn  int // in the order in which the dials succeeded, counted from 1; 0 is every connection
	Dir   Direction
	Frame int // counted from 1; 0 counts bytes of the stream
	Byte  int64
}

// String is short and has no blanks, for the name of a subtest: conn1-to-server-frame3+2.
func (p Place) String() string {
	conn := "every"
	if p.Conn > 0 {
		conn = strconv.Itoa(p.Conn)
	}
	if p.Frame == 0 {
		return fmt.Sprintf("conn%s-%s-byte%d", conn, p.Dir, p.Byte)
	}
	return fmt.Sprintf("conn%s-%s-frame%d+%d", conn, p.Dir, p.Frame, p.Byte)
}

// Code returns the place as Go code.
func (p Place) Code() string {
	var b strings.Builder
	fmt.Fprintf(&b, "faultnet.Place{Conn: %d, Dir: faultnet.%s", p.Conn, directionNames[p.Dir].code)
	if p.Frame != 0 {
		fmt.Fprintf(&b, ", Frame: %d", p.Frame)
	}
	fmt.Fprintf(&b, ", Byte: %d}", p.Byte)
	return b.String()
}

// Fault is what happens at a place, once on each connection that the place names.
type Fault struct {
	Kind  Kind
	At    Place
	Wait  time.Duration // of Delay: how long; of Drip: between two bytes
	Bytes int64         // of Drip: how many bytes; 0 is all that follow
}

// String tells the fault in a few words.
func (f Fault) String() string {
	s := f.Kind.String()
	if f.Wait != 0 {
		s += " " + f.Wait.String()
	}
	if f.Bytes != 0 {
		s += fmt.Sprintf(" %d bytes", f.Bytes)
	}
	return s + " at " + f.At.String()
}

// Code returns the fault as Go code.
func (f Fault) Code() string {
	if f.Wait == 0 && f.Bytes == 0 {
		return fmt.Sprintf("faultnet.%s.At(%s)", kindNames[f.Kind].code, f.At.Code())
	}
	var b strings.Builder
	fmt.Fprintf(&b, "faultnet.Fault{Kind: faultnet.%s, At: %s", kindNames[f.Kind].code, f.At.Code())
	if f.Wait != 0 {
		b.WriteString(", Wait: " + durationCode(f.Wait))
	}
	if f.Bytes != 0 {
		fmt.Fprintf(&b, ", Bytes: %d", f.Bytes)
	}
	b.WriteString("}")
	return b.String()
}

func (f Fault) check() error {
	switch {
	case f.Kind == 0 || int(f.Kind) >= len(kindNames):
		return fmt.Errorf("no such kind: %d", f.Kind)
	case int(f.At.Dir) >= len(directionNames):
		return fmt.Errorf("no such direction: %d", f.At.Dir)
	case f.At.Conn < 0 || f.At.Frame < 0 || f.At.Byte < 0 || f.Wait < 0 || f.Bytes < 0:
		return fmt.Errorf("negative number in %+v", f)
	}
	return nil
}

// Plan is which faults happen. It is a value, and its zero value has none. The same plan gives the same connection
// number the same faults.
type Plan struct {
	faults []Fault
	random bool
	seed   uint64
	opts   Options
}

// Faults is the plan of these faults. Those at the same place happen in the order given. It panics on a fault that makes
// no sense, which is a mistake in the test.
func Faults(faults ...Fault) Plan {
	for _, f := range faults {
		if err := f.check(); err != nil {
			panic("faultnet: " + err.Error())
		}
	}
	return Plan{faults: slices.Clone(faults)}
}

// Conn returns the faults of a connection, counted from 1.
func (p Plan) Conn(conn int) []Fault {
	if p.random {
		return p.randomConn(conn)
	}
	var faults []Fault
	for _, f := range p.faults {
		if f.At.Conn == conn || f.At.Conn == 0 {
			f.At.Conn = conn
			faults = append(faults, f)
		}
	}
	return faults
}

// Fixed returns a plan that lists what this one has for the first connections: for a random plan, the way to a smaller
// one that still fails.
func (p Plan) Fixed(conns int) Plan {
	var faults []Fault
	for i := range conns {
		faults = append(faults, p.Conn(i+1)...)
	}
	return Plan{faults: faults}
}

// Seed returns the seed of a random plan, and false for any other.
func (p Plan) Seed() (uint64, bool) { return p.seed, p.random }

// String returns the plan as Go code.
func (p Plan) String() string {
	switch {
	case p.random:
		return fmt.Sprintf("faultnet.Random(%d, %s)", p.seed, p.opts.code())
	case len(p.faults) == 0:
		return "faultnet.Faults()"
	}
	var b strings.Builder
	b.WriteString("faultnet.Faults(\n")
	for _, f := range p.faults {
		b.WriteString("\t" + f.Code() + ",\n")
	}
	b.WriteString(")")
	return b.String()
}

// durationCode returns d as gofmt would leave it, in the largest unit that divides it.
func durationCode(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Minute, "Minute"}, {time.Second, "Second"}, {time.Millisecond, "Millisecond"}, {time.Microsecond, "Microsecond"}} {
		if d == u.unit {
			return "time." + u.name
		}
		if d%u.unit == 0 {
			return fmt.Sprintf("%d * time.%s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d * time.Nanosecond", d)
}
