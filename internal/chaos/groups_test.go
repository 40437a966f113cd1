package chaos_test

import (
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/internal/faultnet"
	"github.com/goeventstore/eventstore/internal/memnet"
)

// run carries the plan out in virtual time against the embedded server.
func (p *groupPlan) run(t *testing.T, mangle mangle, join joiner) (r *groupRun) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r = p.start(t, memnet.New(), mangle, join, eventstoretest.ForceEmbedded())
		r.play()
	})
	return r
}

// Workers of several groups and strategies work, fail, hang, forget, crash and come again on lines that break, while groups are
// updated, deleted and made anew, parked messages are replayed and the server is restarted: every message is acked, skipped or
// parked in the end, and comes again until it is, with the right retry count; windows hold; the order is the strategy's.
func TestGroupsUnderFire(t *testing.T) {
	var events, deliveries, repeated, faults, joins int
	for seed := range faultnet.Seeds(t, 20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := newGroupPlan(seed).run(t, nil, joinReal)
			events += len(r.ids) * len(r.groups)
			for _, s := range r.wire.log {
				switch s.kind {
				case sawDelivery:
					deliveries++
					if s.retries > 0 {
						repeated++
					}
				case sawConnect:
					joins++
				default:
				}
			}
			for _, l := range r.lines {
				faults += l.Fired()
			}
			if wrong := r.check(); wrong != "" {
				t.Fatalf("%s\n%s\n%s", wrong, r.tell(), repeat(t, seed))
			}
		})
	}
	t.Logf("%d faults of lines, %d joinings, %d events for groups, %d deliveries, %d of them not the first", faults, joins, events, deliveries, repeated)
}

// The same plans, shorter, in real time against the server that the environment names: what takes exact times is not looked at.
func TestGroupsUnderFireOnARealServer(t *testing.T) {
	if os.Getenv("EVENTSTORE_TEST_TCP") == "" {
		t.Skip("NOT TESTED: EVENTSTORE_TEST_TCP names no real server")
	}
	const longest = 12 * time.Second
	for seed := range uint64(3) {
		t.Run(strconv.FormatUint(seed+1, 10), func(t *testing.T) {
			t.Parallel()
			p := newGroupPlan(seed + 1)
			p.shorten(longest)
			r := p.start(t, faultnet.TCP{}, nil, joinReal)
			r.play()
			if wrong := r.check(); wrong != "" {
				t.Fatalf("%s\n%s", wrong, r.tell())
			}
			t.Logf("%d events, %d entries of the wire", len(r.ids), len(r.wire.log))
		})
	}
}
