package eventstore_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server"
)

func TestAuthenticateChecksTheCredentialsAtConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New()
		srv, err := server.Start(server.Config{Listen: network.Listen})
		require.NoError(t, err)
		dialer := eventstore.WithDialer(network.Dial)
		good := strings.Replace(srv.URL(), "tcp://", "tcp://admin:changeit@", 1)
		c, err := eventstore.Connect(t.Context(), good, dialer, eventstore.WithAuthenticate())
		require.NoError(t, err)
		require.NoError(t, c.Ping(t.Context()))
		require.NoError(t, c.Close())

		begun := time.Now()
		_, err = eventstore.Connect(t.Context(), good+"?authenticate=true", dialer, eventstore.WithCredentials("admin", "s3cret"))
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		require.NotContains(t, err.Error(), "s3cret")
		require.Equal(t, 3*time.Second, time.Since(begun), "a fresh server may refuse good ones for a while")

		_, err = eventstore.Connect(t.Context(), srv.URL(), dialer, eventstore.WithAuthenticate())
		require.ErrorIs(t, err, eventstore.ErrArgument)
		require.NoError(t, srv.Close())
	})
}

// fresh plays a server that refuses every login, or drops it, until it knows its users, and then answers.
func fresh(known *atomic.Bool, dropped bool) func(p *scripted.Peer) {
	return scripted.Identified(func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			switch {
			case known.Load() && f.Command == messages.Ping:
				p.Send(messages.Pong, f.ID, "")
			case !dropped:
				p.Send(messages.NotAuthenticated, f.ID, "Not Authenticated")
			}
			return true
		})
	})
}

// A server that was just started refuses good credentials; neither Connect nor a call that waited for the reconnect hears of it.
func TestAFreshServerIsGivenTime(t *testing.T) {
	for name, dropped := range map[string]bool{"it refuses": false, "it is silent": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var known atomic.Bool
				l := &line{Network: scripted.Listen(t, fresh(&known, dropped))}
				begun := time.Now()
				later := func() {
					known.Store(false)
					time.AfterFunc(1700*time.Millisecond, func() { known.Store(true) })
				}
				later()
				c, err := eventstore.Connect(t.Context(), "tcp://a:b@"+scripted.Addr, eventstore.WithDialer(l.Dial), eventstore.WithAuthenticate())
				require.NoError(t, err)
				require.Equal(t, 2*time.Second, time.Since(begun))
				time.Sleep(time.Minute)
				later()
				begun = time.Now()
				l.cut()
				require.NoError(t, c.Ping(t.Context()))
				require.Equal(t, 2*time.Second, time.Since(begun))
				require.NoError(t, c.Close())
			})
		})
	}
}

// Credentials that the server keeps refusing are waited for once. After that calls are refused at once after each reconnect.
func TestBadCredentialsAreWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known atomic.Bool
		l := &line{Network: scripted.Listen(t, fresh(&known, false))}
		c, err := eventstore.Connect(t.Context(), "tcp://a:b@"+scripted.Addr, eventstore.WithDialer(l.Dial))
		require.NoError(t, err)
		for _, want := range []time.Duration{3 * time.Second, 500 * time.Millisecond} {
			time.Sleep(time.Minute)
			begun := time.Now()
			l.cut()
			synctest.Wait()
			require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrNotAuthenticated)
			require.Equal(t, want, time.Since(begun))
		}
		require.NoError(t, c.Close())
	})
}

// The password is changed under the client: the call that is refused gets the new one, and all that follow have it.
func TestCredentialsAreSuppliedAnew(t *testing.T) {
	password, asked := "old", 0
	serve := func(p *scripted.Peer) {
		alive(p, func(f messages.Frame) bool {
			answer := messages.NotAuthenticated
			if string(f.Password) == password {
				answer = messages.Pong
			}
			p.Send(answer, f.ID, "")
			return true
		})
	}
	supply := eventstore.WithCredentialsFunc(func(context.Context) (string, string, error) {
		asked++
		if password == "none" {
			return "", "", errors.New("the vault is closed")
		}
		return "user", password, nil
	})
	play(t, serve, func(t *testing.T, c *eventstore.Client) {
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, 1, asked)
		password = "new"
		require.NoError(t, c.Ping(t.Context()))
		require.NoError(t, c.Ping(t.Context()))
		require.Equal(t, 2, asked)
		_, err := c.Call(t.Context(), messages.Raw(messages.Ping, nil), eventstore.As("user", "own"))
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		require.Equal(t, 2, asked, "those of a call are not the client's")
		password = "none"
		require.ErrorIs(t, c.Ping(t.Context()), eventstore.ErrNotAuthenticated)
		require.Equal(t, 3, asked)
	}, supply, eventstore.WithCredentials("user", "beaten"))
}

func TestWithoutCredentialsThereIsNoConnection(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := eventstore.Connect(ctx, "tcp://a:b@127.0.0.1:1", eventstore.WithCredentialsFunc(func(context.Context) (string, string, error) {
		return "", "", errors.New("the vault is closed")
	}))
	require.ErrorContains(t, err, "the vault is closed")
	_, err = eventstore.Connect(t.Context(), "tcp://127.0.0.1:1", eventstore.WithCredentialsFunc(func(context.Context) (string, string, error) {
		return strings.Repeat("x", 300), "y", nil
	}))
	require.ErrorIs(t, err, eventstore.ErrArgument)
	require.ErrorContains(t, err, "the login has 300 bytes")
}
