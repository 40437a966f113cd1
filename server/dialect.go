package server

import (
	"fmt"
	"strings"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/groups"
	"github.com/goeventstore/eventstore/server/internal/quorum"
)

// Dialect is how a server speaks, as far as that differs between the generations of servers. The zero value is Dialect41.
// Each switch works by itself; a preset also has the small print of its generation, such as which fields an answer has.
type Dialect struct {
	// Numbers32: event numbers have 32 bits in requests, those that do not fit are a BadRequest, and the number of a deleted
	// stream is 2147483647 to everybody.
	Numbers32 bool
	// NoIdentify: IdentifyClient is a command that is not known.
	NoIdentify bool
	// OmitZeros: what is 0, false or empty is left out of answers, fields that the protocol requires among them.
	OmitZeros bool
	// LeaderNames: the roles of nodes are Leader and Follower, not Master and Slave, and gossip has the keys that came with them.
	LeaderNames bool
	// Filtered: the server itself picks events of reads of all streams and of subscriptions.
	Filtered bool
	// TLS: Config.TCP and Config.HTTP speak TLS from the first byte. It needs Config.TLS, and there is no Config.Secure beside it.
	TLS bool
	// NoAnonymous: who gives no credentials may neither read nor write any stream, whatever access lists say.
	NoAnonymous bool

	generation generation
}

// generation is the small print.
type generation int

const (
	generation393 generation = iota - 2
	generation394
	generation41 // the zero value
	generation50
	generation20
	generation226
	generation2310
)

// Dialect393 is that of 3.9.3 and older servers. Its witness are recordings of a real one.
func Dialect393() Dialect {
	return Dialect{Numbers32: true, NoIdentify: true, generation: generation393}
}

// Dialect394 is that of 3.9.4: as 4.1, but answers to writes do not tell the current version, messages of persistent
// subscriptions not how often they were tried, and a soft delete stores 2147483647. Its witness are recordings of a real one.
func Dialect394() Dialect { return Dialect{generation: generation394} }

// Dialect41 is that of 4.1, the default. Its witness are recordings of a real one.
func Dialect41() Dialect { return Dialect{} }

// Dialect50 is that of 5.0: a scavenge is answered when it begins, persistent subscriptions are managed by administrators
// and operators, and a link whose number is none is an event like any other. It has no recorded witness.
func Dialect50() Dialect { return Dialect{generation: generation50} }

// Dialect20 is that of 20.6 to 21.10: leaders and followers, filters, TLS on every port, positions in the answer to a write
// that was there already, and no anonymous consumers. It has no recorded witness.
func Dialect20() Dialect {
	return Dialect{LeaderNames: true, Filtered: true, TLS: true, generation: generation20}
}

// Dialect226 is that of 22.6 to 22.10: as 20, without zeros in answers, and all clients have 64-bit numbers. Deletes
// tell the current version, and take an expected version of -4. It has no recorded witness.
func Dialect226() Dialect {
	d := Dialect20()
	d.OmitZeros, d.generation = true, generation226
	return d
}

// Dialect2310 is that of 23.10: as 22.6, without anonymous access. It has no recorded witness.
func Dialect2310() Dialect {
	d := Dialect226()
	d.NoAnonymous, d.generation = true, generation2310
	return d
}

// presets are the dialects by their names, the oldest first.
var presets = []struct {
	name string
	make func() Dialect
}{
	{"3.9.3", Dialect393},
	{"3.9.4", Dialect394},
	{"4.1", Dialect41},
	{"5.0", Dialect50},
	{"20.10", Dialect20},
	{"22.6", Dialect226},
	{"23.10", Dialect2310},
}

// DialectNames are the names that ParseDialect knows, the oldest server first.
func DialectNames() []string {
	names := make([]string, len(presets))
	for i := range presets {
		names[i] = presets[i].name
	}
	return names
}

// ParseDialect returns the preset of a name, such as "4.1" or "20.10".
func ParseDialect(name string) (Dialect, error) {
	for i := range presets {
		if presets[i].name == name {
			return presets[i].make(), nil
		}
	}
	return Dialect{}, fmt.Errorf("no dialect is called %q: there are %s", name, strings.Join(DialectNames(), ", "))
}

// version is what the server says it is.
func (d *Dialect) version() string {
	return [...]string{"3.9.3.0", "3.9.4.0", "4.1.4.0", "5.0.11.0", "20.10.5.0", "22.6.0.0", "23.10.6.0"}[d.generation-generation393]
}

// stateName is what a state of a node is called.
func (d *Dialect) stateName(s quorum.State) string {
	if d.LeaderNames {
		switch s {
		case quorum.Master:
			return "Leader"
		case quorum.PreMaster:
			return "PreLeader"
		case quorum.Slave:
			return "Follower"
		default:
		}
	}
	return string(s)
}

// softDelete is the $tb that a soft delete stores (8).
func (d *Dialect) softDelete() int64 {
	if d.Numbers32 || d.generation <= generation394 {
		return messages.DeletedNumber32
	}
	return messages.DeletedNumber
}

// groupRules are those of persistent subscriptions.
func (d *Dialect) groupRules() groups.Rules {
	return groups.Rules{FreeSlots: d.generation >= generation50, KeepCounts: d.generation >= generation20}
}

// adapt makes the answer to a write one of the dialect: it was decided as that of 4.1.
func (d *Dialect) adapt(a *messages.AppendCompleted) {
	switch {
	case d.generation <= generation394:
		a.HasCurrent = false
	case d.generation >= generation20 && a.Result == messages.AccessDenied:
		a.Message = "Access Denied"
	}
}

// numbered are the shapes of the requests with event numbers, where those have 32 bits.
var numbered = map[messages.Command]*shape{
	messages.WriteEvents:                  writeShape.with32(2),
	messages.DeleteStream:                 deleteShape.with32(2),
	messages.TransactionStart:             transactionStartShape.with32(2),
	messages.ReadEvent:                    readEventShape.with32(2),
	messages.ReadStreamEventsForward:      readStreamShape.with32(2),
	messages.ReadStreamEventsBackward:     readStreamShape.with32(2),
	messages.CreatePersistentSubscription: groupShape.with32(4),
	messages.UpdatePersistentSubscription: groupShape.with32(4),
	messages.DeletePersistentSubscription: groupShape.with32(4),
}

// with32 is the shape with a number of 32 bits in one of its fields.
func (s *shape) with32(field int) *shape {
	narrow := *s
	narrow.fields[field] = numbers32
	return &narrow
}

// takes reports whether the numbers of a request are as wide as the dialect has them. What else is wrong with it is not asked.
func (d *Dialect) takes(f *messages.Frame) bool {
	s := numbered[f.Command]
	return !d.Numbers32 || s == nil || s.fits(f.Body)
}
