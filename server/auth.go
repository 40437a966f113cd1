package server

import (
	"context"
	"crypto/subtle"
	"log/slog"

	"github.com/goeventstore/eventstore/messages"
)

// The texts of NotAuthenticated (4.18).
const (
	textNotAuthenticated = "Not Authenticated"
	textUnauthorized     = "Unauthorized"
	textNoCredentials    = "No user credentials provided." //nolint:gosec // a text about credentials is none
)

// identity is who a session speaks for.
type identity struct {
	// The default of packages without credentials, set by Authenticate: also by one that failed, and then they are
	// refused (4.18).
	hasDefault bool
	standard   credentials
	// last is what was found good most recently, so that a client that sends its credentials with every package costs
	// a comparison and no more.
	last credentials
}

// credentials are a login and a password, and whom they belong to as of a version of the users.
type credentials struct {
	login, password []byte
	user            *user
	good            bool
	version         uint64
}

// match reports whether these are the given ones, which are compared in constant time.
func (c *credentials) match(login, password []byte) bool {
	return subtle.ConstantTimeCompare(c.login, login)&subtle.ConstantTimeCompare(c.password, password) == 1
}

// user returns whom a package speaks for, nil for nobody in particular. Its own credentials go before the default.
func (c *session) user(f *messages.Frame) (u *user, ok bool) {
	id := &c.identity
	if f.HasCredentials {
		return c.check(&id.last, f.Login, f.Password)
	}
	if !id.hasDefault {
		return nil, true
	}
	return c.check(&id.standard, id.standard.login, id.standard.password)
}

// check looks a login and a password up, through a memo of one answer.
func (c *session) check(memo *credentials, login, password []byte) (*user, bool) {
	version := c.server.users.version()
	if memo.version == version && memo.match(login, password) {
		return memo.user, memo.good
	}
	u, ok := c.server.users.find(login, password)
	if !ok {
		if memo == &c.identity.standard {
			memo.user, memo.good, memo.version = nil, false, version
		}
		return nil, false
	}
	// What is found wrong does not displace what was good.
	memo.login = append(memo.login[:0], login...)
	memo.password = append(memo.password[:0], password...)
	memo.user, memo.good, memo.version = u, true, version
	return u, true
}

// authenticate serves Authenticate. Its credentials become the default of the session, wrong ones too.
func (c *session) authenticate(f *messages.Frame) {
	if !f.HasCredentials {
		c.reply(messages.NotAuthenticated, f.ID, textNoCredentials)
		return
	}
	c.identity.hasDefault = true
	c.identity.standard = credentials{
		login:    append([]byte(nil), f.Login...),
		password: append([]byte(nil), f.Password...),
	}
	if _, ok := c.user(&messages.Frame{}); !ok {
		c.log.LogAttrs(context.Background(), slog.LevelInfo, "authentication failed")
		c.reply(messages.NotAuthenticated, f.ID, textUnauthorized)
		return
	}
	c.reply(messages.Authenticated, f.ID, "")
}
