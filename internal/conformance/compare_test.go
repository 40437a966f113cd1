package conformance_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// A difference is one value of a frame that the embedded server gave otherwise than the recorded one.
type difference struct {
	n        int    // of the recorded frame
	field    string // its path in the message; "command", "body" of a text, "frame" when one is missing or too many
	recorded string
	ours     string
}

func (d difference) String() string {
	return fmt.Sprintf("frame %d: %s: recorded %s, ours %s", d.n, d.field, d.recorded, d.ours)
}

const (
	absent = "absent" // instead of a field that did not come
	none   = "none"   // instead of a frame that did not come
)

// The fields whose values differ from run to run, by their names, which mean the same in every message.
var (
	positionFields = []protoreflect.Name{
		"commit_position", "prepare_position", "last_commit_position", "next_commit_position", "next_prepare_position",
		"transaction_id",
	}
	portFields = []protoreflect.Name{"external_tcp_port", "http_port", "external_secure_tcp_port"}
	idFields   = []protoreflect.Name{"event_id", "processed_event_ids"}
)

// hintField has the leader of a cluster.
const hintField = protoreflect.Name("additional_info")

// port tells whether ours can be what recorded is, and remembers it. Two are never one.
func (k *learned) port(recorded, ours int32) bool {
	if known, ok := k.ports[recorded]; ok {
		return known == ours
	}
	for _, known := range k.ports {
		if known == ours {
			return false
		}
	}
	k.ports[recorded] = ours
	return ours > 0
}

// tookField is how long something took.
const tookField = protoreflect.Name("total_time_ms")

const (
	ticksField = protoreflect.Name("created")
	epochField = protoreflect.Name("created_epoch")
)

// varying are the parts of a text that differ from run to run: ids, times of day, how long something took, addresses, and in
// the metadata of links positions and the version of the projection, which depends on the order in which a server made them
// and on how often they were reset.
var varying = regexp.MustCompile(`[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)` +
	`|\b\d\d:\d\d:\d\d(\.\d{7})?\b|\b127\.0\.0\.1:\d+\b|"\$[cp]":\d+|"\$v":"\d+:-1:\d+:3"`)

// positionIn returns the position that such a part is, after its key.
func positionIn(part string) (key string, position int64, ok bool) {
	if !strings.HasPrefix(part, `"$c":`) && !strings.HasPrefix(part, `"$p":`) {
		return "", 0, false
	}
	key = part[:len(`"$c":`)]
	position, err := strconv.ParseInt(part[len(key):], 10, 64)
	return key, position, err == nil
}

// learned is what each value of a recording is in this run. The same recorded value is always the same of ours, and a
// position that was behind another is never before it; but the answers of one round, to requests that were under way
// together, are ordered only within an exchange.
type learned struct {
	began     time.Time
	round     int
	positions map[int64]place // by the recorded one
	invented  map[int64]bool  // positions that the client made up: they stay as they are
	ids       map[uuid.UUID]uuid.UUID
	takenIDs  map[uuid.UUID]bool
	sent      map[uuid.UUID]bool // ids that the client chose: they stay as they are
	created   map[string]int64   // ticks, by the event
	times     map[string]string  // as text
	ports     map[int32]int32    // of the nodes of a cluster
}

// clone returns what is learned so far, to compare without learning more.
func (k *learned) clone() *learned {
	c := *k
	c.positions, c.ids, c.takenIDs = maps.Clone(k.positions), maps.Clone(k.ids), maps.Clone(k.takenIDs)
	c.ports = maps.Clone(k.ports)
	c.created, c.times, c.invented = maps.Clone(k.created), maps.Clone(k.times), maps.Clone(k.invented)
	return &c
}

// place is a position of ours, and where it was learned.
type place struct {
	ours  int64
	round int
	in    exchange
}

func newLearned() *learned {
	return &learned{
		began: time.Now(), positions: map[int64]place{}, invented: map[int64]bool{}, ids: map[uuid.UUID]uuid.UUID{}, takenIDs: map[uuid.UUID]bool{}, sent: map[uuid.UUID]bool{},
		created: map[string]int64{}, times: map[string]string{}, ports: map[int32]int32{},
	}
}

// position tells whether ours can be what recorded is, and remembers it. The constants are zero and negative.
func (k *learned) position(in exchange, recorded, ours int64) bool {
	if recorded <= 0 || ours <= 0 || k.invented[recorded] {
		return recorded == ours
	}
	if known, ok := k.positions[recorded]; ok {
		return known.ours == ours
	}
	for other, known := range k.positions {
		ordered := known.round < k.round || known.in == in
		if ordered && known.ours != ours && (other < recorded) != (known.ours < ours) {
			return false
		}
	}
	k.positions[recorded] = place{ours, k.round, in}
	return true
}

// insideOf is how far behind the beginning of a record a position is certainly inside of it.
const insideOf = 16

// inside learns a position of a request that is inside of a record: as far behind its beginning as it was.
func (k *learned) inside(recorded int64) (ours int64, ok bool) {
	for d := int64(1); d < insideOf; d++ {
		if known, ok := k.positions[recorded-d]; ok {
			k.positions[recorded] = place{ours: known.ours + d, round: known.round, in: known.in}
			return known.ours + d, true
		}
	}
	return 0, false
}

// placed are the positions that a text tells.
var placed = regexp.MustCompile(`\b(pos|position|checkpoint) \d+`)

// placedText is text, where the positions told in it are compared as such.
func (k *learned) placedText(in exchange, recorded, ours []byte) bool {
	theirs, mine := placed.FindAll(recorded, -1), placed.FindAll(ours, -1)
	if len(theirs) != len(mine) {
		return false
	}
	number := func(b []byte) int64 {
		n, _ := strconv.ParseInt(string(b[bytes.LastIndexByte(b, ' ')+1:]), 10, 64) // one that is too large is the largest
		return n
	}
	for i := range theirs {
		if !k.position(in, number(theirs[i]), number(mine[i])) {
			return false
		}
	}
	return k.text(in, placed.ReplaceAll(recorded, nil), placed.ReplaceAll(ours, nil))
}

func (k *learned) id(recorded, ours uuid.UUID) bool {
	if recorded == uuid.Nil || k.sent[recorded] {
		return recorded == ours
	}
	if known, ok := k.ids[recorded]; ok {
		return known == ours
	}
	if ours == uuid.Nil || k.sent[ours] || k.takenIDs[ours] {
		return false
	}
	k.ids[recorded], k.takenIDs[ours] = ours, true
	return true
}

// text tells whether two texts are the same but for the varying parts, and remembers those.
func (k *learned) text(in exchange, recorded, ours []byte) bool {
	if bytes.Equal(recorded, ours) {
		return true
	}
	if !utf8.Valid(recorded) || !utf8.Valid(ours) ||
		!bytes.Equal(varying.ReplaceAll(recorded, nil), varying.ReplaceAll(ours, nil)) {
		return false
	}
	theirs, mine := varying.FindAllString(string(recorded), -1), varying.FindAllString(string(ours), -1)
	if len(theirs) != len(mine) {
		return false
	}
	for i := range theirs {
		a, errA := uuid.Parse(theirs[i])
		b, errB := uuid.Parse(mine[i])
		keyA, positionA, okA := positionIn(theirs[i])
		keyB, positionB, okB := positionIn(mine[i])
		switch known, ok := k.times[theirs[i]]; {
		case (errA == nil) != (errB == nil):
			return false
		case errA == nil:
			if !k.id(a, b) {
				return false
			}
		case okA != okB || keyA != keyB:
			return false
		case okA:
			if !k.position(in, positionA, positionB) {
				return false
			}
		case ok && known != mine[i]:
			return false
		default:
			k.times[theirs[i]] = mine[i]
		}
	}
	return true
}

// compare returns where an answer differs from the recorded one.
func (k *learned) compare(recorded *line, ours answer) []difference {
	d := differ{learned: k, n: recorded.n, in: recorded.exchange()}
	if recorded.command != ours.command {
		d.add("command", recorded.command.String(), ours.command.String()+" "+show(ours.body))
		return d.found
	}
	want, have := messageOf(recorded.command), messageOf(recorded.command)
	if want == nil || decode(recorded.body, want) != nil || decode(ours.body, have) != nil {
		if !k.text(d.in, recorded.body, ours.body) {
			d.add("body", show(recorded.body), show(ours.body))
		}
		return d.found
	}
	d.message("", want.ProtoReflect(), have.ProtoReflect())
	return d.found
}

func decode(b []byte, m proto.Message) error {
	return proto.UnmarshalOptions{AllowPartial: true}.Unmarshal(b, m)
}

// differ compares the messages of one frame.
type differ struct {
	*learned
	n     int
	in    exchange
	found []difference
}

func (d *differ) add(field, recorded, ours string) {
	d.found = append(d.found, difference{d.n, field, recorded, ours})
}

func (d *differ) message(path string, want, have protoreflect.Message) {
	fields := want.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		at := path + string(f.Name())
		switch {
		case f.IsList():
			d.list(at, f, want, have)
		case want.Has(f) && have.Has(f):
			d.value(at, f, want, have, want.Get(f), have.Get(f))
		case want.Has(f):
			d.add(at, showValue(f, want.Get(f)), absent)
		case have.Has(f):
			d.add(at, absent, showValue(f, have.Get(f)))
		}
	}
	if !bytes.Equal(want.GetUnknown(), have.GetUnknown()) {
		d.add(path+"unknown", show(want.GetUnknown()), show(have.GetUnknown()))
	}
}

func (d *differ) list(at string, f protoreflect.FieldDescriptor, want, have protoreflect.Message) {
	theirs, mine := want.Get(f).List(), have.Get(f).List()
	for i := range max(theirs.Len(), mine.Len()) {
		one := fmt.Sprintf("%s[%d]", at, i)
		switch {
		case i >= mine.Len():
			d.add(one, showValue(f, theirs.Get(i)), absent)
		case i >= theirs.Len():
			d.add(one, absent, showValue(f, mine.Get(i)))
		default:
			d.value(one, f, want, have, theirs.Get(i), mine.Get(i))
		}
	}
}

// value compares two values of a field that both messages have.
func (d *differ) value(at string, f protoreflect.FieldDescriptor, in, inOurs protoreflect.Message, want, have protoreflect.Value) {
	var same bool
	switch {
	case f.Message() != nil:
		d.message(at+".", want.Message(), have.Message())
		return
	case slices.Contains(positionFields, f.Name()):
		same = d.position(d.in, want.Int(), have.Int())
	case f.Name() == ticksField:
		same = d.ticks(in, want.Int(), have.Int())
	case f.Name() == epochField:
		same = epoch(in) == epoch(inOurs)
	case f.Name() == tookField:
		same = have.Int() >= 0
	case slices.Contains(idFields, f.Name()):
		a, errA := messages.ParseGUID(want.Bytes())
		b, errB := messages.ParseGUID(have.Bytes())
		same = errA == nil && errB == nil && d.id(a, b)
	case f.Name() == hintField:
		theirs, mine := new(pb.LeaderInfo), new(pb.LeaderInfo)
		if same = decode(want.Bytes(), theirs) == nil && decode(have.Bytes(), mine) == nil; same {
			d.message(at+".", theirs.ProtoReflect(), mine.ProtoReflect())
		}
	case slices.Contains(portFields, f.Name()):
		same = d.port(int32(want.Int()), int32(have.Int()))
	case f.Kind() == protoreflect.StringKind:
		same = d.placedText(d.in, []byte(want.String()), []byte(have.String()))
	case f.Kind() == protoreflect.BytesKind:
		same = d.text(d.in, want.Bytes(), have.Bytes())
	default:
		same = want.Equal(have)
	}
	if !same {
		d.add(at, showValue(f, want), showValue(f, have))
	}
}

// ticks: an event was stored while the recording was played, and only once.
func (d *differ) ticks(record protoreflect.Message, recorded, ours int64) bool {
	now := time.Now()
	if recorded <= 0 || ours < messages.Ticks(d.began.Add(-time.Second)) || ours > messages.Ticks(now.Add(time.Second)) {
		return recorded == ours
	}
	fields := record.Descriptor().Fields()
	key := fmt.Sprint(record.Get(fields.ByName("event_stream_id")), record.Get(fields.ByName("event_number")), recorded)
	known, ok := d.created[key]
	d.created[key] = ours
	return !ok || known == ours
}

// epoch is how a record's time in milliseconds differs from its ticks: not at all.
func epoch(record protoreflect.Message) int64 {
	fields := record.Descriptor().Fields()
	ticks := record.Get(fields.ByName(ticksField)).Int() - messages.Ticks(time.Unix(0, 0))
	return record.Get(fields.ByName(epochField)).Int() - ticks/10_000
}

// request returns the body of a request with what was learned in the place of what was recorded.
func (k *learned) request(l *line) ([]byte, error) {
	m := messageOf(l.command)
	decodes := m != nil && decode(l.body, m) == nil // what does not is meant so
	if !decodes || !k.fill(m.ProtoReflect()) {
		return l.body, nil
	}
	return proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(m)
}

// fill replaces what was learned, and reports whether there was anything.
func (k *learned) fill(m protoreflect.Message) bool {
	changed := false
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			if filled, ok := k.filled(f, m, v); ok {
				m.Set(f, filled)
				changed = true
			}
			return true
		}
		for i := range v.List().Len() {
			if filled, ok := k.filled(f, m, v.List().Get(i)); ok {
				v.List().Set(i, filled)
				changed = true
			}
		}
		return true
	})
	return changed
}

func (k *learned) filled(f protoreflect.FieldDescriptor, in protoreflect.Message, v protoreflect.Value) (protoreflect.Value, bool) {
	switch {
	case f.Message() != nil:
		return v, k.fill(v.Message())
	case slices.Contains(positionFields, f.Name()):
		if known, ok := k.positions[v.Int()]; ok {
			return protoreflect.ValueOfInt64(known.ours), known.ours != v.Int()
		}
		if ours, ok := k.inside(v.Int()); ok {
			return protoreflect.ValueOfInt64(ours), true
		}
		k.invented[v.Int()] = true
	case slices.Contains(idFields, f.Name()):
		id, err := messages.ParseGUID(v.Bytes())
		if err != nil {
			break
		}
		if in.Descriptor().Name() == "NewEvent" {
			k.sent[id] = true
			break
		}
		if ours, ok := k.ids[id]; ok {
			return protoreflect.ValueOfBytes(messages.AppendGUID(nil, ours)), true
		}
	case f.Kind() == protoreflect.StringKind:
		s := k.filledText(v.String())
		return protoreflect.ValueOfString(s), s != v.String()
	case f.Kind() == protoreflect.BytesKind && utf8.Valid(v.Bytes()):
		s := k.filledText(string(v.Bytes()))
		return protoreflect.ValueOfBytes([]byte(s)), s != string(v.Bytes())
	}
	return v, false
}

func (k *learned) filledText(s string) string {
	return varying.ReplaceAllStringFunc(s, func(part string) string {
		if id, err := uuid.Parse(part); err == nil {
			if ours, ok := k.ids[id]; ok {
				return ours.String()
			}
		}
		if key, position, ok := positionIn(part); ok {
			if known, learned := k.positions[position]; learned {
				return fmt.Sprint(key, known.ours)
			}
		}
		if ours, ok := k.times[part]; ok {
			return ours
		}
		return part
	})
}

func showValue(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch {
	case f.Message() != nil:
		return "a " + string(f.Message().Name())
	case f.Enum() != nil:
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
		return strconv.Itoa(int(v.Enum()))
	case slices.Contains(idFields, f.Name()):
		if id, err := messages.ParseGUID(v.Bytes()); err == nil {
			return id.String()
		}
		return show(v.Bytes())
	case f.Kind() == protoreflect.StringKind:
		return show([]byte(v.String()))
	case f.Kind() == protoreflect.BytesKind:
		return show(v.Bytes())
	default:
		return v.String()
	}
}

// show quotes a text, and writes all else in hex.
func show(b []byte) string {
	text := string(b)
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.IsSpace(r) {
			return hex.EncodeToString(b)
		}
	}
	return strconv.Quote(text)
}
