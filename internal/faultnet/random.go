package faultnet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Options say what a random plan may do. The zero value is usable.
type Options struct {
	Max     int           // faults in all, so that a test ends; default 20
	PerConn int           // faults of one connection at most; default 2
	Kinds   []Kind        // default: all
	Frames  int           // places are in the first Frames frames of a connection; default 20
	Bytes   int64         // and in the first Bytes bytes of a frame or of the stream; default 4096
	Delay   time.Duration // the longest Delay; default 1 s
	Pause   time.Duration // the longest pause between two bytes of a Drip; default 1 ms
}

func (o Options) withDefaults() Options {
	setDefault(&o.Max, 20)
	setDefault(&o.PerConn, 2)
	setDefault(&o.Frames, 20)
	setDefault(&o.Bytes, 4096)
	setDefault(&o.Delay, time.Second)
	setDefault(&o.Pause, time.Millisecond)
	if len(o.Kinds) == 0 {
		for k := Cut; k <= Drip; k++ {
			o.Kinds = append(o.Kinds, k)
		}
	}
	o.Kinds = slices.Clone(o.Kinds)
	return o
}

func setDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

func (o Options) code() string {
	kinds := make([]string, len(o.Kinds))
	for i, k := range o.Kinds {
		kinds[i] = "faultnet." + kindNames[k].code
	}
	return fmt.Sprintf("faultnet.Options{Max: %d, PerConn: %d, Kinds: []faultnet.Kind{%s}, Frames: %d, Bytes: %d, Delay: %s, Pause: %s}",
		o.Max, o.PerConn, strings.Join(kinds, ", "), o.Frames, o.Bytes, durationCode(o.Delay), durationCode(o.Pause))
}

// Random is the plan that a seed makes: for each connection none to PerConn faults, until Max are given away; connections
// after that are left alone. A fault whose place a connection never reaches counts as well.
func Random(seed uint64, o Options) Plan {
	o = o.withDefaults()
	for _, k := range o.Kinds {
		if err := k.At(Place{}).check(); err != nil {
			panic("faultnet: " + err.Error())
		}
	}
	return Plan{random: true, seed: seed, opts: o}
}

// randomConn draws each connection from a source of its own, so that it is the same whatever happens on the others;
// only how much of Max is left depends on those before it.
func (p Plan) randomConn(conn int) []Fault {
	for i, left := 1, p.opts.Max; left > 0; i++ {
		rng := rand.New(rand.NewPCG(p.seed, uint64(i)))
		count := min(rng.IntN(p.opts.PerConn+1), left)
		if i == conn {
			faults := make([]Fault, count)
			for j := range faults {
				faults[j] = p.opts.draw(rng, conn)
			}
			return faults
		}
		left -= count
	}
	return nil
}

func (o Options) draw(rng *rand.Rand, conn int) Fault {
	f := Fault{
		Kind: o.Kinds[rng.IntN(len(o.Kinds))],
		At:   Place{Conn: conn, Dir: Direction(rng.IntN(2)), Frame: 1 + rng.IntN(o.Frames)},
	}
	switch rng.IntN(6) {
	case 0, 1: // the boundary
	case 2:
		f.At.Byte = 1 + rng.Int64N(prefixSize-1)
	case 3:
		f.At.Byte = prefixSize + rng.Int64N(headerSize)
	case 4:
		f.At.Byte = o.drawByte(rng)
	default:
		f.At.Frame, f.At.Byte = 0, o.drawByte(rng)
	}
	switch f.Kind {
	case Delay:
		f.Wait = drawWait(rng, o.Delay)
	case Drip:
		f.Wait = drawWait(rng, o.Pause)
		f.Bytes = 1 + rng.Int64N(200)
	default:
	}
	return f
}

// drawByte prefers small numbers: most frames are small.
func (o Options) drawByte(rng *rand.Rand) int64 { return rng.Int64N(1 + rng.Int64N(o.Bytes)) }

// drawWait returns a round part of the longest, which is easier to read.
func drawWait(rng *rand.Rand, longest time.Duration) time.Duration {
	return longest * time.Duration(1+rng.IntN(20)) / 20
}
