package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

func (p *peer) authenticate(credentials ...string) answer {
	p.t.Helper()
	return p.call(messages.Raw(messages.Authenticate, []byte("a body is not looked at")), credentials...)
}

// is checks whom the connection speaks for without credentials in the package: somebody who is let in, the administrator
// among them, or nobody.
func (p *peer) is(who string) {
	p.t.Helper()
	a := p.call(&messages.EventRead{Stream: "$users", RequireLeader: true})
	switch who {
	case "refused":
		p.notAuthenticated(a, "Not Authenticated")
		p.notAuthenticated(p.call(ping("")), "Not Authenticated")
		p.notAuthenticated(p.call(messages.Raw(0x7F, nil)), "Not Authenticated")
	case "admin":
		require.Equal(p.t, "\x08\x00", string(a.body[:2]), "%s", a)
	default:
		require.Equal(p.t, "\x08\x05\x12\x00", string(a.body))
		p.alive()
	}
}

func (p *peer) notAuthenticated(a answer, text string) {
	p.t.Helper()
	require.Equal(p.t, messages.NotAuthenticated, a.command, "%s", a)
	require.Equal(p.t, text, string(a.body))
}

// TestAuthenticate: credentials become the default of the connection, wrong ones as well.
func TestAuthenticate(t *testing.T) {
	p := dialPeer(t, serve(t))
	p.is("anonymous")
	p.notAuthenticated(p.authenticate(), "No user credentials provided.")
	p.is("anonymous")
	require.Equal(t, messages.Authenticated, p.authenticate(p.admin()...).command)
	p.is("admin")
	p.notAuthenticated(p.authenticate(), "No user credentials provided.")
	p.is("admin")
	system := &messages.EventRead{Stream: "$users", RequireLeader: true}
	require.Equal(t, "\x08\x05\x12\x00", string(p.call(system, "ops", "changeit").body), "a package's own go before")
	p.notAuthenticated(p.call(system, "admin", "wrong"), "Not Authenticated")
	p.is("admin")

	for _, wrong := range [][]string{
		{"admin", "wrong"},
		{"nobody", "x"},
		{"", "x"},
		{"admin", ""},
		{"", ""},
		{"Admin", p.admin()[1]},
		{strings.Repeat("l", 255), strings.Repeat("p", 255)},
		{"üser", "✓"},
	} {
		p.notAuthenticated(p.authenticate(wrong...), "Unauthorized")
		p.is("refused")
		// Heartbeats and identification are nobody's, and good credentials of a package work.
		require.Equal(t, messages.HeartbeatResponse, p.call(messages.Raw(messages.HeartbeatRequest, nil)).command)
		p.identify(1)
		require.Equal(t, "\x08\x00", string(p.call(system, p.admin()...).body[:2]))
		p.is("refused")
	}
	require.Equal(t, messages.Authenticated, p.authenticate("ops", "changeit").command)
	p.is("ops")
}

// TestAuthenticatePipelined: what is sent right behind is checked with the new credentials already.
func TestAuthenticatePipelined(t *testing.T) {
	p := dialPeer(t, serve(t))
	read := &messages.EventRead{Stream: "$users", RequireLeader: true}
	good, behind, wrong, last := p.id(), p.id(), p.id(), p.id()
	p.write(slices.Concat(
		p.frame(good, messages.Raw(messages.Authenticate, nil), p.admin()...), p.frame(behind, read),
		p.frame(wrong, messages.Raw(messages.Authenticate, nil), "admin", "wrong"), p.frame(last, read),
	))
	require.Equal(t, messages.Authenticated, p.reply(good).command)
	require.Equal(t, "\x08\x00", string(p.reply(behind).body[:2]))
	p.notAuthenticated(p.reply(wrong), "Unauthorized")
	p.notAuthenticated(p.reply(last), "Not Authenticated")
}

// TestEmptyPasswords: in front of an empty body there can be none.
func TestEmptyPasswords(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	name := "conformance-" + strings.ToLower(t.Name()) + "-" + p.of("").String()
	p.writeUser(name, name, "", "")
	p.t.Cleanup(func() { p.call(deleteOf("$user-"+name, -2, false), p.admin()...) })
	require.Equal(t, messages.Pong, p.call(ping("body"), name, "").command)
	require.Equal(t, messages.Authenticated, p.authenticate(name, "").command)
	p.is("somebody")
	for _, r := range []messages.Request{ping(""), messages.Raw(messages.Authenticate, nil)} {
		other := dialPeer(t, srv)
		other.write(other.frame(other.id(), r, name, ""))
		for _, a := range other.ended() {
			require.Equal(t, messages.BadRequest, a.command, "%s", a)
			require.Equal(t, messages.ID{}, a.id)
		}
	}
}

// TestUserEvents: what an event has to say, so that a user is let in. Each is of a user that nobody has met, since a real
// server remembers passwords.
func TestUserEvents(t *testing.T) {
	srv := serve(t)
	p := dialPeer(t, srv)
	for _, good := range []string{"", `,"disabled":false`, `,"fullName":"F"`, `,"other":1`, `,"groups":null`, `,"GROUPS":[]`} {
		name := p.newUser(good)
		require.Equal(t, messages.Pong, p.call(ping(""), name, "password").command, good)
		p.notAuthenticated(p.call(ping(""), name, "Password"), "Not Authenticated")
		p.notAuthenticated(p.call(ping(""), strings.ToUpper(name), "password"), "Not Authenticated")
	}
	for _, bad := range []string{
		`,"disabled":true`, `,"salt":"?"`, `,"salt":"YWJj"`, `,"hash":""`, `,"groups":"g"`, `,"disabled":"x"`, `}}`, `} x`,
	} {
		name := p.newUser(bad)
		p.notAuthenticated(p.call(ping(""), name, "password"), "Not Authenticated")
		p.notAuthenticated(dialPeer(t, srv).authenticate(name, "password"), "Unauthorized")
	}
	// An event that tells of somebody else is found before the password is looked at.
	name := p.newUser("")
	p.writeUser(name, "another", "password", "")
	for _, password := range []string{"password", "wrong"} {
		p.notAuthenticated(p.call(ping(""), name, password), "Internal Server Error")
		p.notAuthenticated(dialPeer(t, srv).authenticate(name, password), "Internal Server Error")
	}
	// The administrators are a group.
	name = p.newUser(`,"groups":["$Admins"]`)
	require.Equal(t, messages.Authenticated, p.authenticate(name, "password").command)
	p.is("admin")
}

// TestAuthenticatedForGood: whom a good Authenticate found stays, whatever becomes of the user.
func TestAuthenticatedForGood(t *testing.T) {
	p := dialPeer(t, serve(t))
	name := p.newUser(`,"groups":["$admins"]`)
	require.Equal(t, messages.Authenticated, p.authenticate(name, "password").command)
	p.writeUser(name, name, "other", `,"disabled":true`)
	p.is("admin")
	p.call(deleteOf("$user-"+name, -2, false), p.admin()...)
	p.is("admin")
	p.notAuthenticated(p.authenticate("nobody", "x"), "Unauthorized")
	p.is("refused")
}

// TestWrongDefaultsAreLookedUpAgain: credentials that were wrong when they became the default count once they are good.
func TestWrongDefaultsAreLookedUpAgain(t *testing.T) {
	p := dialPeer(t, serve(t))
	name := "conformance-" + strings.ToLower(t.Name()) + "-" + p.of("").String()
	p.notAuthenticated(p.authenticate(name, "password"), "Unauthorized")
	p.is("refused")
	p.writeUser(name, name, "password", "")
	p.t.Cleanup(func() { p.call(deleteOf("$user-"+name, -2, false), p.admin()...) })
	p.is("somebody")
}
