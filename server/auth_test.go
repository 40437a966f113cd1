package server

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

func TestPackageCredentials(t *testing.T) {
	p := run(t).peer(t)
	p.appended("s", expectNoStream, "a")
	read := &messages.EventRead{Stream: "s"}
	long := strings.Repeat("l", 255)
	for _, wrong := range [][]string{
		{"admin", "wrong"},
		{"nobody", "x"},
		{"", "x"},
		{"", ""},
		{"Admin", "changeit"},
		{"admin", "Changeit"},
		{"admin", ""},
		{"admin", "changeit "},
		{long, long},
		{"üser", "pä"},
	} {
		a := p.call(read, wrong...)
		require.Equal(t, messages.NotAuthenticated, a.command, wrong)
		require.Equal(t, "Not Authenticated", string(a.body))
	}
	// They are found before anything else about a package, and neither at heartbeats nor at identify.
	for command, want := range map[messages.Command]messages.Command{
		messages.Ping:                 messages.NotAuthenticated,
		messages.ReadEvent:            messages.NotAuthenticated,
		0x7F:                          messages.NotAuthenticated,
		messages.WriteEventsCompleted: messages.NotAuthenticated,
		messages.HeartbeatRequest:     messages.HeartbeatResponse,
		messages.IdentifyClient:       messages.ClientIdentified,
	} {
		body := []byte{0xFF, 0xFF}
		if command == messages.IdentifyClient {
			body = []byte{8, 1}
		}
		require.Equal(t, want, p.call(messages.Raw(command, body), "admin", "no").command, command)
	}
	for _, good := range [][]string{nil, {"admin", "changeit"}, {"ops", "changeit"}} {
		require.Equal(t, messages.ReadEventCompleted, p.call(read, good...).command)
	}
	// Good ones that were checked before do not cover for wrong ones.
	require.Equal(t, messages.ReadEventCompleted, p.call(read, "admin", "changeit").command)
	require.Equal(t, messages.NotAuthenticated, p.call(read, "admin", "changeiT").command)
}

func TestAuthenticate(t *testing.T) {
	p := run(t).peer(t)
	authenticate := func(credentials ...string) answer {
		return p.call(messages.Raw(messages.Authenticate, []byte("body")), credentials...)
	}
	system := &messages.EventRead{Stream: "$x"}
	const denied, missing = "\x08\x05\x12\x00", "\x08\x02\x12\x00"

	a := authenticate()
	require.Equal(t, messages.NotAuthenticated, a.command)
	require.Equal(t, "No user credentials provided.", string(a.body))
	require.Equal(t, messages.Pong, p.call(messages.Raw(messages.Ping, nil)).command, "nothing changed")
	require.Equal(t, denied, string(p.call(system).body))

	require.Equal(t, messages.Authenticated, authenticate("admin", "changeit").command)
	require.Equal(t, missing, string(p.call(system).body), "they are the default now")
	require.Equal(t, denied, string(p.call(system, "ops", "changeit").body), "a package's own go before")
	require.Equal(t, messages.NotAuthenticated, p.call(system, "admin", "no").command)
	require.Equal(t, missing, string(p.call(system).body))

	for _, wrong := range [][]string{{"admin", "no"}, {"nobody", "x"}, {"admin", ""}} {
		a = authenticate(wrong...)
		require.Equal(t, messages.NotAuthenticated, a.command)
		require.Equal(t, "Unauthorized", string(a.body))
		for _, request := range []messages.Request{messages.Raw(messages.Ping, nil), system, messages.Raw(0x7F, nil)} {
			a = p.call(request)
			require.Equal(t, messages.NotAuthenticated, a.command, "wrong ones are the default too")
			require.Equal(t, "Not Authenticated", string(a.body))
		}
		require.Equal(t, messages.HeartbeatResponse, p.call(messages.Raw(messages.HeartbeatRequest, nil)).command)
		require.Equal(t, messages.ClientIdentified, p.call(messages.Raw(messages.IdentifyClient, []byte{8, 1})).command)
		require.Equal(t, missing, string(p.call(system, "admin", "changeit").body), "own good ones work")
		require.Equal(t, messages.NotAuthenticated, p.call(messages.Raw(messages.Ping, nil)).command)
	}
	require.Equal(t, messages.Authenticated, authenticate("ops", "changeit").command, "and it can be repaired")
	require.Equal(t, messages.Pong, p.call(messages.Raw(messages.Ping, nil)).command)
	require.Equal(t, denied, string(p.call(system).body))
}

// TestUsersThatChange: what a session remembers of a package's credentials does not outlive a change, and whom a good
// Authenticate found stays for as long as the connection lasts, as on a real server.
func TestUsersThatChange(t *testing.T) {
	n := run(t)
	admin := &user{login: "admin", roles: []string{roleAdmins}}
	p := n.peer(t)
	ping, system := messages.Raw(messages.Ping, nil), &messages.EventRead{Stream: "$x"}
	const denied, missing = "\x08\x05\x12\x00", "\x08\x02\x12\x00"
	is := func(want messages.Command, credentials ...string) {
		t.Helper()
		require.Equal(t, want, p.call(ping, credentials...).command, credentials)
	}
	require.Equal(t, messages.NotAuthenticated, p.call(messages.Raw(messages.Authenticate, nil), "u", "1").command)
	is(messages.NotAuthenticated)
	require.Equal(t, userSuccess, n.createUser(admin, "u", "U", "1", []string{roleAdmins}))
	is(messages.Pong)
	is(messages.Pong, "u", "1")
	require.Equal(t, userSuccess, n.resetPassword(admin, "u", "2"))
	is(messages.NotAuthenticated, "u", "1")
	is(messages.NotAuthenticated)
	is(messages.Pong, "u", "2")

	require.Equal(t, messages.Authenticated, p.call(messages.Raw(messages.Authenticate, nil), "u", "2").command)
	require.Equal(t, userSuccess, n.updateUser(admin, "u", "U", nil))
	require.Equal(t, denied, string(p.call(system, "u", "2").body))
	require.Equal(t, missing, string(p.call(system).body))
	require.Equal(t, userSuccess, n.disableUser(admin, "u"))
	is(messages.NotAuthenticated, "u", "2")
	is(messages.Pong)
	require.Equal(t, userSuccess, n.enableUser(admin, "u"))
	is(messages.Pong, "u", "2")
	require.Equal(t, userSuccess, n.deleteUser(admin, "u"))
	is(messages.NotAuthenticated, "u", "2")
	require.Equal(t, missing, string(p.call(system).body))
	require.Equal(t, messages.NotAuthenticated, p.call(messages.Raw(messages.Authenticate, nil), "u", "2").command)
	is(messages.NotAuthenticated)
}
