package conformance_test

import (
	"crypto/pbkdf2"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// logins are whom a test speaks for: anonymous, one user of each kind, and somebody who was made for it.
type logins struct {
	name string // of somebody
	by   map[string][]string
}

const somebodysGroup = "Conformance"

// everybody are the names in logins.
var everybody = []string{"anonymous", "ops", "somebody", "admin"}

func (p *peer) logins() logins {
	p.t.Helper()
	name := p.newUser("")
	return logins{name, map[string][]string{
		"anonymous": nil, "ops": {"ops", "changeit"}, "somebody": {name, "password"}, "admin": p.admin(),
	}}
}

// newUser makes a user by an event, as only an administrator can, and deletes it with the test. More is what the event
// says beside the rest.
func (p *peer) newUser(more string) string {
	p.t.Helper()
	name := "conformance-" + uuid.NewString()
	p.writeUser(name, name, "password", more)
	p.t.Cleanup(func() {
		p.call(deleteOf("$user-"+name, -2, false), p.admin()...)
	})
	return name
}

// writeUser writes an event to the stream of a user, which tells of a login.
func (p *peer) writeUser(name, login, password, more string) {
	p.t.Helper()
	salt := make([]byte, 16)
	hash, err := pbkdf2.Key(sha1.New, password, salt, 1000, 20)
	require.NoError(p.t, err)
	data := fmt.Sprintf(`{"loginName":%q,"salt":%q,"hash":%q,"groups":[%q]%s}`, login,
		base64.StdEncoding.EncodeToString(salt), base64.StdEncoding.EncodeToString(hash), somebodysGroup, more)
	p.written("$user-"+name, data, p.admin()...)
}

// written writes JSON to a stream, which must succeed.
func (p *peer) written(stream, data string, credentials ...string) {
	p.t.Helper()
	var m pb.WriteEventsCompleted
	p.call(&messages.Append{Stream: stream, Expected: -2, RequireLeader: true, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: "t", ContentType: 1, Data: []byte(data)},
	}}, credentials...).into(p.t, messages.WriteEventsCompleted, &m)
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
}

// An operation is something that needs a right.
type operation struct {
	name  string
	right string // by its key in $acl
	// denied reports whether it is denied to somebody. A delete and a write have an expected version that is wrong, so that
	// they change nothing: rights are checked first.
	denied func(p *peer, stream string, credentials ...string) bool
}

const nowhere = 1 << 40 // no stream has so many events

var operations = []operation{
	{"append", "$w", deniedAppend},
	{"delete", "$d", deniedDelete},
	{"read event", "$r", deniedEvent},
	{"read forward", "$r", deniedForward},
	{"read backward", "$r", deniedBackward},
	{"subscribe", "$r", deniedSubscribe},
	{"read metadata", "$mr", ofMetadata(deniedEvent)},
	{"read metadata forward", "$mr", ofMetadata(deniedForward)},
	{"read metadata backward", "$mr", ofMetadata(deniedBackward)},
	{"subscribe to metadata", "$mr", ofMetadata(deniedSubscribe)},
	{"write metadata", "$mw", ofMetadata(deniedAppend)},
	{"delete metadata", "nobody's", ofMetadata(deniedDelete)},
}

func ofMetadata(denied func(*peer, string, ...string) bool) func(*peer, string, ...string) bool {
	return func(p *peer, stream string, credentials ...string) bool {
		return denied(p, "$$"+stream, credentials...)
	}
}

func deniedAppend(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	var m pb.WriteEventsCompleted
	p.call(&messages.Append{Stream: stream, Expected: nowhere, RequireLeader: true, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: "t", Data: []byte("x")},
	}}, credentials...).into(p.t, messages.WriteEventsCompleted, &m)
	if m.GetResult() == messages.AccessDenied {
		failed(p.t, &m, "Access denied.", -1)
		return true
	}
	require.Equal(p.t, messages.WrongExpectedVersion, m.GetResult())
	return false
}

func deniedDelete(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	var m pb.DeleteStreamCompleted
	p.call(deleteOf(stream, nowhere, false), credentials...).into(p.t, messages.DeleteStreamCompleted, &m)
	if m.GetResult() == messages.AccessDenied {
		require.Equal(p.t, "Access denied.", m.GetMessage())
		require.Equal(p.t, []int64{-1, -1}, []int64{m.GetPreparePosition(), m.GetCommitPosition()})
		return true
	}
	require.Equal(p.t, messages.WrongExpectedVersion, m.GetResult())
	return false
}

func deniedEvent(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	a := p.call(&messages.EventRead{Stream: stream, Number: -1, RequireLeader: true}, credentials...)
	require.Equal(p.t, messages.ReadEventCompleted, a.command, "%s", a)
	return string(a.body) == "\x08\x05\x12\x00"
}

func deniedForward(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	return p.deniedPage(&messages.StreamRead{Stream: stream, Count: 1, RequireLeader: true}, credentials)
}

func deniedBackward(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	return p.deniedPage(&messages.StreamRead{Stream: stream, From: -1, Count: 1, Backward: true, RequireLeader: true}, credentials)
}

func (p *peer) deniedPage(r *messages.StreamRead, credentials []string) bool {
	p.t.Helper()
	var m pb.ReadStreamEventsCompleted
	a := p.call(r, credentials...)
	a.into(p.t, a.command, &m)
	if m.GetResult() != messages.ReadStreamAccessDenied {
		return false
	}
	require.Empty(p.t, m.GetEvents())
	require.Equal(p.t, []int64{-1, -1}, []int64{m.GetNextEventNumber(), m.GetLastEventNumber()})
	require.True(p.t, m.GetIsEndOfStream())
	require.Empty(p.t, m.GetError())
	return true
}

func deniedSubscribe(p *peer, stream string, credentials ...string) bool {
	p.t.Helper()
	id := p.send(subscribeTo(stream), credentials...)
	if a := p.reply(id); a.command != messages.SubscriptionConfirmation {
		require.Equal(p.t, messages.SubscriptionDropped, a.command, "%s", a)
		require.Equal(p.t, "\x08\x01", string(a.body))
		return true
	}
	p.write(p.frame(id, messages.Raw(messages.UnsubscribeFromStream, nil)))
	require.Equal(p.t, messages.SubscriptionDropped, p.reply(id).command)
	return false
}

// may returns who may do something.
func (l logins) may(p *peer, o operation, stream string) []string {
	p.t.Helper()
	var granted []string
	for _, name := range everybody {
		if !o.denied(p, stream, l.by[name]...) {
			granted = append(granted, name)
		}
	}
	return granted
}

// mayAll checks who has each right on a stream: those in rights, by its key, or else the default.
func (l logins) mayAll(p *peer, stream string, byDefault []string, rights map[string][]string) {
	p.t.Helper()
	for _, o := range operations {
		want := byDefault
		if o.right == "nobody's" {
			want = nil
		}
		if own, ok := rights[o.right]; ok {
			want = own
		}
		require.Equal(p.t, want, l.may(p, o, stream), "%s, %v", o.name, rights)
	}
}

var adminAlone = []string{"admin"}

// TestDefaultRights: user streams are everybody's, system streams the administrators'; whether they exist does not matter.
func TestDefaultRights(t *testing.T) {
	p := dialPeer(t, serve(t))
	l := p.logins()
	for _, stream := range []string{newStream("rights"), p.in(existing)} {
		l.mayAll(p, stream, everybody, nil)
	}
	system := "$" + newStream("rights")
	l.mayAll(p, system, adminAlone, nil)
	p.written(system, "{}", p.admin()...)
	l.mayAll(p, system, adminAlone, nil)
}

// TestEachRight: a key of $acl governs its own operations and no others.
func TestEachRight(t *testing.T) {
	p := dialPeer(t, serve(t))
	l := p.logins()
	for _, key := range []string{"$r", "$w", "$d", "$mr", "$mw"} {
		acl := fmt.Sprintf(`{"$acl":{%q:%q}}`, key, l.name)
		stream := p.in(existing)
		p.written("$$"+stream, acl, p.admin()...)
		l.mayAll(p, stream, everybody, map[string][]string{key: {"somebody", "admin"}})
		// On a stream that does not exist too, and it opens one of the system.
		system := "$" + newStream("rights")
		p.written("$$"+system, acl, p.admin()...)
		l.mayAll(p, system, adminAlone, map[string][]string{key: {"somebody", "admin"}})
	}
}

// TestRoles: whom a list lets in.
func TestRoles(t *testing.T) {
	p := dialPeer(t, serve(t))
	l := p.logins()
	stream := p.in(existing)
	quoted := func(roles ...string) string {
		b, err := json.Marshal(roles)
		require.NoError(t, err)
		return string(b)
	}
	read := operations[slices.IndexFunc(operations, func(o operation) bool { return o.name == "read event" })]
	for list, want := range map[string][]string{
		quoted(l.name):                               {"somebody", "admin"},
		quoted(strings.ToUpper(l.name)):              {"somebody", "admin"},
		quoted(somebodysGroup):                       {"somebody", "admin"},
		quoted("x", strings.ToLower(somebodysGroup)): {"somebody", "admin"},
		quoted("$OPS"):                               {"ops", "admin"},
		quoted("ops", l.name):                        {"ops", "somebody", "admin"},
		quoted("$admins"):                            adminAlone,
		quoted("nobody"):                             adminAlone,
		quoted(""):                                   adminAlone,
		quoted("$ALL"):                               adminAlone,
		quoted("nobody", "$all"):                     everybody,
		`[]`:                                         adminAlone,
		`""`:                                         adminAlone,
		`"nobody"`:                                   adminAlone,
		// These make all of the metadata void.
		`null`:                  everybody,
		`5`:                     everybody,
		`["nobody",null]`:       everybody,
		`"nobody","$x":"y"`:     everybody,
		`"nobody"},"$tb":"1",{`: everybody,
	} {
		p.written("$$"+stream, `{"$acl":{"$r":`+list+`}}`, p.admin()...)
		require.Equal(t, want, l.may(p, read, stream), list)
	}
}

// TestNobodysRights: what is denied to administrators too. $all is no stream, and a metastream has no metadata.
func TestNobodysRights(t *testing.T) {
	p := dialPeer(t, serve(t))
	l := p.logins()
	for _, o := range operations {
		if strings.Contains(o.name, "metadata") {
			require.Empty(t, l.may(p, o, "$$"+newStream("rights")), o.name)
		}
	}
	l.mayAll(p, "$all", adminAlone, map[string][]string{
		"$w": nil, "$d": nil,
	})
}

// TestRightsAreCheckedFirst: before the version and the state of the stream, and behind the size of a page.
func TestRightsAreCheckedFirst(t *testing.T) {
	p := dialPeer(t, serve(t))
	stream := p.in(softDeleted)
	p.written("$$"+stream, `{"$acl":{"$r":[],"$w":[],"$d":[]}}`)
	for _, o := range operations {
		require.Equal(t, slices.Contains([]string{"$r", "$w", "$d", "nobody's"}, o.right), o.denied(p, stream), o.name)
	}
	failed(t, p.append(stream, -2), "Access denied.", -1)
	failed(t, p.append(stream, -4, "a"), "Access denied.", -1)
	require.Equal(t, messages.ReadStreamError, p.forward(stream, 0, 4097).result)
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward(stream, 0, 4096).result)
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward(stream, -1, 1).result)
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward(stream, 0, 0).result)
}

// TestHardDeletedStreamsKeepTheirRights: who may not read one is not told what became of it.
func TestHardDeletedStreamsKeepTheirRights(t *testing.T) {
	p := dialPeer(t, serve(t))
	stream := p.in(existing)
	p.written("$$"+stream, `{"$acl":{"$r":[]}}`)
	require.Equal(t, messages.Success, p.delete(stream, -2, true).GetResult())
	require.Equal(t, messages.ReadStreamAccessDenied, p.forward(stream, 0, 1).result)
	require.True(t, deniedSubscribe(p, stream))
	failed(t, p.append(stream, -2, "a"), "Stream is deleted.", -1)
}

// TestDefaultAccessLists: $settings has what a stream's own metadata do not say. It puts back what was there.
func TestDefaultAccessLists(t *testing.T) {
	p := dialPeer(t, serve(t))
	l := p.logins()
	before := "{}"
	var last pb.ReadEventCompleted
	p.call(&messages.EventRead{Stream: "$settings", Number: -1, RequireLeader: true}, p.admin()...).into(t, messages.ReadEventCompleted, &last)
	if data := last.GetEvent().GetEvent().GetData(); len(data) > 0 {
		before = string(data)
	}
	set := func(settings string) {
		t.Helper()
		p.written("$settings", settings, p.admin()...)
	}
	t.Cleanup(func() { set(before) })

	user, system, own := p.in(existing), "$"+newStream("rights"), p.in(existing)
	p.written("$$"+own, `{"$acl":{"$d":"ops"}}`)
	lists := fmt.Sprintf(`{"other":{},"$userStreamAcl":{"$d":%q},"$systemStreamAcl":{"$r":["ops",%q]}}`, l.name, l.name)
	set(lists)
	l.mayAll(p, user, everybody, map[string][]string{"$d": {"somebody", "admin"}})
	l.mayAll(p, system, adminAlone, map[string][]string{"$r": {"ops", "somebody", "admin"}})
	l.mayAll(p, own, everybody, map[string][]string{"$d": {"ops", "admin"}})
	for _, void := range []string{
		"{}", "no JSON", `{"$userStreamAcl":null}`, `{"$systemStreamAcl":{"$r":"$all"},"$userStreamAcl":5}`,
		`{"$userStreamAcl":{"$d":[],"$x":[]}}`,
	} {
		set(lists)
		set(void)
		require.False(t, deniedDelete(p, user), void)
		require.True(t, deniedForward(p, system), void)
	}
	set(lists + "text behind it")
	require.True(t, deniedDelete(p, user))
	require.True(t, deniedDelete(p, own))
}
