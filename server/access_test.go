package server

import (
	"errors"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// Somebody of each kind.
var (
	anonymous *user
	operator  = &user{login: "ops", roles: []string{roleOps, "ops"}}
	somebody  = &user{login: "u", roles: []string{"g", "u"}}
	everybody = []*user{anonymous, operator, somebody, administrator}
)

// who returns the logins of those who have a right.
func (n *node) who(stream string, r right) (logins []string) {
	for _, u := range everybody {
		switch {
		case !n.allowed(u, stream, r):
		case u == nil:
			logins = append(logins, "anonymous")
		default:
			logins = append(logins, u.login)
		}
	}
	return logins
}

var (
	public   = []string{"anonymous", "ops", "u", "admin"}
	adminsOf = []string{"admin"} // what is left to the administrators
)

func TestDefaultRights(t *testing.T) {
	n := run(t)
	for r := range rights {
		require.Equal(t, public, n.who("s", r), r)
		require.Equal(t, adminsOf, n.who("$s", r), r)
	}
	for name, want := range map[string][rights][]string{
		"$$s":    {public, public, nil, public, public},
		"$$$s":   {adminsOf, adminsOf, nil, adminsOf, adminsOf},
		"$$$$s":  {},
		"$$$$$s": {},
		"$$":     {public, public, nil, public, public},
		"$all":   {adminsOf, nil, nil, adminsOf, adminsOf},
		"$$$all": {adminsOf, adminsOf, nil, adminsOf, adminsOf},
	} {
		for _, r := range []right{rightRead, rightWrite, rightDelete} {
			require.Equal(t, want[r], n.who(name, r), "%s %d", name, r)
		}
	}
}

// TestStreamRights: each key of $acl rules its own right, and the lists of whom it lets in.
func TestStreamRights(t *testing.T) {
	n := run(t)
	p := n.adminPeer(t)
	for key, r := range map[string]right{"$r": rightRead, "$w": rightWrite, "$d": rightDelete, "$mr": rightMetaRead, "$mw": rightMetaWrite} {
		p.metadata("s", `{"$acl":{"`+key+`":"u"}}`)
		for other := range rights {
			want := public
			if other == r {
				want = []string{"u", "admin"}
			}
			require.Equal(t, want, n.who("s", other), "%s %d", key, other)
		}
	}
	p.metadata("s", `{"$acl":{"$mr":"u","$mw":"ops"}}`)
	require.Equal(t, []string{"u", "admin"}, n.who("$$s", rightRead), "by $mr")
	require.Equal(t, []string{"ops", "admin"}, n.who("$$s", rightWrite), "by $mw")
	for list, want := range map[string][]string{
		`"u"`:               {"u", "admin"},
		`"U"`:               {"u", "admin"},
		`["G"]`:             {"u", "admin"},
		`["x","$Ops"]`:      {"ops", "admin"},
		`[]`:                adminsOf,
		`""`:                adminsOf,
		`"nobody"`:          adminsOf,
		`["nobody","$all"]`: public,
		`"$ALL"`:            adminsOf,
		`["u",null]`:        public, // the metadata are void
		`5`:                 public,
		`"u","$x":"u"`:      public,
		`"u","$x":[]`:       public,
	} {
		p.metadata("s", `{"$acl":{"$r":`+list+`}}`)
		require.Equal(t, want, n.who("s", rightRead), list)
	}
	p.metadata("$s", `{"$acl":{"$r":"$all"}}`)
	require.Equal(t, public, n.who("$s", rightRead))
	require.Equal(t, adminsOf, n.who("$s", rightWrite))
	// The log's own list rules who reads it, and nothing lets anybody write it.
	p.metadata("$all", `{"$acl":{"$r":"ops","$w":"$all","$d":"$all"}}`)
	require.Equal(t, []string{"ops", "admin"}, n.who("$all", rightRead))
	require.Empty(t, n.who("$all", rightWrite))
	require.Empty(t, n.who("$all", rightDelete))
	// A hard-deleted stream keeps its list.
	p.appended("gone", expectAny, "a")
	p.metadata("gone", `{"$acl":{"$r":"u"}}`)
	p.delete("gone", expectAny, true)
	require.Equal(t, []string{"u", "admin"}, n.who("gone", rightRead))
}

// TestSettings: the lists of $settings go between those of a stream and the built-in ones, at once.
func TestSettings(t *testing.T) {
	n := run(t)
	p := n.adminPeer(t)
	p.metadata("own", `{"$acl":{"$w":"g"}}`)
	set := func(contentType int32, data string) {
		t.Helper()
		a := p.call(&messages.Append{Stream: "$settings", Expected: expectAny, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t", ContentType: contentType, Data: []byte(data)},
		}})
		require.Equal(t, messages.WriteEventsCompleted, a.command)
	}
	const lists = `{"$userStreamAcl":{"$r":"u","$mr":[]},"$systemStreamAcl":{"$r":["g"],"$w":"$all"},"other":1}`
	for _, contentType := range []int32{0, 1} {
		set(contentType, lists)
		require.Equal(t, []string{"u", "admin"}, n.who("s", rightRead))
		require.Equal(t, adminsOf, n.who("$$s", rightRead))
		require.Equal(t, public, n.who("s", rightWrite))
		require.Equal(t, []string{"u", "admin"}, n.who("own", rightWrite))
		require.Equal(t, []string{"u", "admin"}, n.who("own", rightRead), "what its own list does not say")
		require.Equal(t, []string{"u", "admin"}, n.who("$s", rightRead))
		require.Equal(t, public, n.who("$s", rightWrite))
		require.Equal(t, []string{"u", "admin"}, n.who("$all", rightRead))
		require.Empty(t, n.who("$all", rightWrite))
		set(contentType, "{}")
		require.Equal(t, public, n.who("s", rightRead))
		require.Equal(t, adminsOf, n.who("$s", rightRead))
	}
	for _, void := range []string{
		"not json", "", "[]", "null", `{"$userStreamAcl":null}`, `{"$userStreamAcl":{"$r":"u"},"$systemStreamAcl":5}`,
		`{"$userStreamAcl":{"$r":"u","$x":"u"}}`, `{"$userStreamAcl":{"$r":null}}`,
	} {
		set(1, lists)
		set(1, void)
		require.Equal(t, public, n.who("s", rightRead), void)
		require.Equal(t, adminsOf, n.who("$s", rightRead), void)
	}
	set(1, lists+"text behind it")
	require.Equal(t, []string{"u", "admin"}, n.who("s", rightRead))
	p.delete("$settings", expectAny, true)
	require.Equal(t, public, n.who("s", rightRead))
}

// TestGrantsEnd: a connection that was let in is not any more once the lists are others, nor is it as somebody else.
func TestGrantsEnd(t *testing.T) {
	n := run(t)
	admin, p := n.adminPeer(t), n.peer(t)
	write := func(credentials ...string) messages.OperationResult {
		var m messages.AppendCompleted
		require.NoError(t, m.Decode(p.call(&messages.Append{Stream: "s", Expected: expectAny}, credentials...).body))
		return m.Result
	}
	set := func(data string) {
		admin.call(&messages.Append{Stream: "$settings", Expected: expectAny, Events: []messages.NewEvent{
			{ID: uuid.New(), Type: "t", Data: []byte(data)},
		}})
	}
	require.Equal(t, messages.Success, write())
	admin.metadata("s", `{"$acl":{"$w":"$admins"}}`)
	require.Equal(t, messages.AccessDenied, write())
	require.Equal(t, messages.Success, write("admin", "changeit"))
	require.Equal(t, messages.AccessDenied, write())
	admin.metadata("s", `{}`)
	require.Equal(t, messages.Success, write())
	set(`{"$userStreamAcl":{"$w":"$admins"}}`)
	require.Equal(t, messages.AccessDenied, write())
	set(`{}`)
	require.Equal(t, messages.Success, write())
}

// TestRightsCostNothing: a request to a stream without metadata pays no memory for its right.
func TestRightsCostNothing(t *testing.T) {
	n := run(t)
	n.adminPeer(t).appended("s", expectAny, "a")
	for _, u := range everybody {
		require.Zero(t, testing.AllocsPerRun(100, func() { n.allowed(u, "s", rightWrite) }))
		require.Zero(t, testing.AllocsPerRun(100, func() { n.allowed(u, "$s", rightRead) }))
	}
}

// broken is a store that cannot be read.
type broken struct{ store.Store }

func (broken) Head(string, int64) (store.Head, error) { return store.Head{}, errors.New("broken") }

// TestABrokenStoreGrantsNothing, and is no reason to call a password wrong.
func TestABrokenStoreGrantsNothing(t *testing.T) {
	n := run(t)
	p := n.peer(t)
	n.store = broken{n.store}
	for r := range rights {
		require.Empty(t, n.who("s", r))
	}
	require.Equal(t, messages.NotHandled, p.call(messages.Raw(messages.Ping, nil), "admin", "changeit").command)
	a := p.call(messages.Raw(messages.Authenticate, nil), "admin", "changeit")
	require.Equal(t, messages.NotAuthenticated, a.command)
	require.Equal(t, "Server not yet ready", string(a.body))
}
