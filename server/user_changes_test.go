package server

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

var administrator = &user{login: "admin", roles: []string{roleAdmins, "admin"}}

// events returns what is in a stream, metastreams too, each event as its type and its data.
func (n *node) events(tb testing.TB, stream string) []string {
	tb.Helper()
	v := n.view()
	head, err := v.store.Head(stream, v.at)
	require.NoError(tb, err)
	var all []string
	for number := range head.Last + 1 {
		e, err := v.eventRecord(stream, number)
		require.NoError(tb, err)
		require.Equal(tb, e.ContentType == 1, e.Type != typeUser)
		all = append(all, e.Type+" "+string(e.Data))
	}
	return all
}

// TestBuiltInUsers: the log begins as that of a real server does.
func TestBuiltInUsers(t *testing.T) {
	n := run(t)
	const list = `$metadata {"$acl":{"$w":"$admins","$d":"$admins","$mw":"$admins"}}`
	require.Equal(t, []string{"$User admin", "$User ops"}, n.events(t, "$users"))
	for login, want := range map[string]string{
		"admin": "$UserCreated {\n  \"loginName\": \"admin\",\n  \"fullName\": \"Event Store Administrator\",\n" +
			"  \"salt\": %q,\n  \"hash\": %q,\n  \"groups\": [\n    \"$admins\"\n  ]\n}",
		"ops": "$UserCreated {\n  \"loginName\": \"ops\",\n  \"fullName\": \"Event Store Operations\",\n" +
			"  \"salt\": %q,\n  \"hash\": %q,\n  \"groups\": [\n    \"$ops\"\n  ]\n}",
	} {
		require.Equal(t, []string{list}, n.events(t, "$$$user-"+login))
		data, _, result := n.view().userData(login)
		require.Equal(t, userSuccess, result)
		require.Len(t, data.Salt, 24)
		require.Len(t, data.Hash, 28)
		require.Equal(t, []string{fmt.Sprintf(want, data.Salt, data.Hash)}, n.events(t, "$user-"+login))
	}
}

// TestHashOfARealServer: a salt and a hash that a 4.1.4 server made of changeit.
func TestHashOfARealServer(t *testing.T) {
	d := userData{Salt: "WNdk2ErIO8QXGH3Fo0EkCw==", Hash: "0AdHzXKgS0yRqp/ygox4449ljIQ="}
	require.True(t, d.verify("changeit"))
	require.False(t, d.verify("changeIt"))
	require.False(t, d.verify(""))
	for _, broken := range []userData{{}, {Salt: "?"}, {Salt: "YWJj", Hash: hashOf("changeit", []byte("abc"))}} {
		require.False(t, broken.verify("changeit"), broken)
	}
}

func TestCreateUser(t *testing.T) {
	n := run(t)
	for _, by := range []*user{nil, {login: "ops", roles: []string{roleOps, "ops"}}} {
		require.Equal(t, userUnauthorized, n.createUser(by, "u", "U", "pw", nil))
	}
	require.Empty(t, n.events(t, "$$$user-u"))
	require.Equal(t, userSuccess, n.createUser(administrator, "u", "U", "pw", []string{"g1", "g2"}))
	require.Equal(t, userSuccess, n.createUser(administrator, "u", "other", "pw", nil), "the same password")
	require.Equal(t, userConflict, n.createUser(administrator, "u", "U", "other", nil))
	require.Equal(t, userSuccess, n.createUser(administrator, "", "", "x", nil), "a login may be empty")
	require.Equal(t, []string{"$User admin", "$User ops", "$User u", "$User "}, n.events(t, "$users"))
	details, result := n.getUser("u")
	require.Equal(t, userSuccess, result)
	require.False(t, details.updated.IsZero())
	details.updated = details.updated.Truncate(0)
	require.Equal(t, userDetails{login: "u", fullName: "U", groups: []string{"g1", "g2"}, updated: details.updated}, details)

	u, err := n.signIn("u", "pw")
	require.NoError(t, err)
	require.True(t, u.in("G1"))
	require.True(t, u.in("u"))
	require.False(t, u.in("g3"))
	require.False(t, u.admin())
}

func TestChangeUser(t *testing.T) {
	n := run(t)
	require.Equal(t, userSuccess, n.createUser(administrator, "u", "U", "pw", []string{"g"}))
	changes := map[string]func(by *user, login string) userResult{
		"update":  func(by *user, login string) userResult { return n.updateUser(by, login, "N", []string{}) },
		"disable": n.disableUser,
		"enable":  n.enableUser,
		"reset":   func(by *user, login string) userResult { return n.resetPassword(by, login, "pw2") },
		"delete":  n.deleteUser,
	}
	for name, change := range changes {
		require.Equal(t, userUnauthorized, change(nil, "u"), name)
		require.Equal(t, userUnauthorized, change(&user{login: "u", roles: []string{"g", "u"}}, "u"), "%s: the user himself", name)
		require.Equal(t, userNotFound, change(administrator, "nobody"), name)
	}
	require.Equal(t, userNotFound, n.changePassword("nobody", "pw", "pw1"))
	require.Empty(t, n.events(t, notificationsStream))
	require.Equal(t, userUnauthorized, n.changePassword("u", "wrong", "pw1"))
	require.Equal(t, userSuccess, n.changePassword("u", "pw", "pw1"))
	for _, name := range []string{"reset", "update", "disable", "disable", "enable"} {
		require.Equal(t, userSuccess, changes[name](administrator, "u"), name)
	}
	_, err := n.signIn("u", "pw2")
	require.NoError(t, err)
	changed := "$PasswordChanged {\n  \"loginName\": \"u\"\n}"
	require.Equal(t, []string{changed, changed, changed, changed, changed}, n.events(t, notificationsStream), "not for enable")
	require.Equal(t, []string{`$metadata {"$maxAge":3600}`}, n.events(t, "$$"+notificationsStream))
	all := n.events(t, "$user-u")
	require.Len(t, all, 7)
	require.Contains(t, all[3], `"groups": []`)
	require.NotContains(t, all[3], "disabled")
	require.Contains(t, all[4], "\",\n  \"disabled\": true,\n  \"groups\"")

	require.Equal(t, userSuccess, n.deleteUser(administrator, "u"))
	require.Equal(t, userNotFound, n.deleteUser(administrator, "u"))
	_, result := n.getUser("u")
	require.Equal(t, userNotFound, result)
	list, result := n.listUsers()
	require.Equal(t, userSuccess, result)
	require.Len(t, list, 2)
	// The login can be used again, and the old events stay hidden.
	require.Equal(t, userSuccess, n.createUser(administrator, "u", "U", "new", nil))
	_, err = n.signIn("u", "new")
	require.NoError(t, err)
	require.Equal(t, messages.ReadStreamSuccess, n.adminPeer(t).forward("$user-u", 7, 1).result)
	list, result = n.listUsers()
	require.Equal(t, userSuccess, result)
	require.Equal(t, []string{"admin", "ops", "u"}, []string{list[0].login, list[1].login, list[2].login}, "once, though $users has it twice")
}

// adminPeer is a peer that authenticated itself as the administrator.
func (n *node) adminPeer(tb testing.TB) *peer {
	tb.Helper()
	p := n.peer(tb)
	require.Equal(tb, messages.Authenticated, p.call(messages.Raw(messages.Authenticate, nil), "admin", "changeit").command)
	return p
}

// TestUserStreams: what an administrator writes to a user's stream counts, whatever its type.
func TestUserStreams(t *testing.T) {
	n := run(t)
	p := n.adminPeer(t)
	ping := messages.Raw(messages.Ping, nil)
	d := userData{LoginName: "u"}
	d.setPassword("pw")
	put := func(data []byte) {
		t.Helper()
		var m messages.AppendCompleted
		event := messages.NewEvent{ID: uuid.New(), Type: "t", Data: data}
		require.NoError(t, m.Decode(p.call(&messages.Append{Stream: "$user-u", Expected: expectAny, Events: []messages.NewEvent{event}}).body))
		require.Equal(t, messages.Success, m.Result)
	}
	put(d.encode())
	require.Equal(t, messages.Pong, p.call(ping, "u", "pw").command)
	d.setPassword("pw2")
	put(d.encode())
	require.Equal(t, messages.NotAuthenticated, p.call(ping, "u", "pw").command)
	require.Equal(t, messages.Pong, p.call(ping, "u", "pw2").command)
	for _, data := range []string{"", "null", "[]", "{", `{"loginName":"u"}`, `{"loginName":"u","disabled":"yes"}`} {
		put([]byte(data))
		a := p.call(ping, "u", "pw2")
		require.Equal(t, messages.NotAuthenticated, a.command, data)
		require.Equal(t, "Not Authenticated", string(a.body), data)
	}
	d.LoginName = "v"
	put(d.encode())
	for _, password := range []string{"pw2", "wrong"} {
		require.Equal(t, "Internal Server Error", string(p.call(ping, "u", password).body))
		require.Equal(t, "Internal Server Error", string(n.peer(t).call(messages.Raw(messages.Authenticate, nil), "u", password).body))
	}
	// What hides the event hides the user.
	d.LoginName = "u"
	put(d.encode())
	require.Equal(t, messages.Pong, p.call(ping, "u", "pw2").command)
	p.metadata("$user-u", `{"$tb":1000}`)
	require.Equal(t, messages.NotAuthenticated, p.call(ping, "u", "pw2").command)
	// A text that is not UTF-8 is read as a real server reads it.
	d.setPassword("a\ufffd")
	put(d.encode())
	p.metadata("$user-u", `{}`)
	require.Equal(t, messages.Pong, p.call(ping, "u", "a\xff").command)
}

// TestPasswordsAreHashedOnce: once for the right one and once for a wrong one in a row, and no wrong one once the right
// one is known.
func TestPasswordsAreHashedOnce(t *testing.T) {
	n := run(t)
	a, err := n.account("admin")
	require.NoError(t, err)
	require.False(t, n.users.check(a, "wrong"))
	require.NotNil(t, a.wrong.Load())
	require.Nil(t, a.right.Load())
	a.data.Hash = hashOf("wrong", make([]byte, saltSize)) // would be found out by hashing again
	a.data.Salt = "AAAAAAAAAAAAAAAAAAAAAA=="
	require.False(t, n.users.check(a, "wrong"), "remembered")

	a, err = n.account("ops")
	require.NoError(t, err)
	require.True(t, n.users.check(a, "changeit"))
	a.data.Hash = ""
	require.True(t, n.users.check(a, "changeit"), "remembered")
	require.False(t, n.users.check(a, "wrong"))
	require.Nil(t, a.wrong.Load(), "not hashed")
	again, err := n.account("ops")
	require.NoError(t, err)
	require.Same(t, a, again)
}

// TestUsersOfAClosedServer: no request waits for a writer that has ended.
func TestUsersOfAClosedServer(t *testing.T) {
	n := run(t)
	require.NoError(t, n.Close())
	require.Equal(t, userError, n.createUser(administrator, "u", "U", "pw", nil))
	_, err := n.deleteOwn("s", expectAny)
	require.ErrorIs(t, err, errWriterEnded)
}
