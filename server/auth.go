package server

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"log/slog"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The texts of NotAuthenticated (4.18).
const (
	textNotAuthenticated = "Not Authenticated"
	textUnauthorized     = "Unauthorized"
	textInternalError    = "Internal Server Error"
	textNotYetReady      = "Server not yet ready"
	textNoCredentials    = "No user credentials provided." //nolint:gosec // a text about credentials is none
)

// identity is who a session speaks for.
type identity struct {
	// The default of packages without credentials, set by Authenticate: also by one that failed, and then they are
	// looked up with each package (4.18).
	hasDefault bool
	standard   credentials
	// authenticated is whom a good Authenticate found, for as long as the connection lasts: whatever becomes of the user.
	authenticated *user
	// last is what was found good most recently, so that a client that sends its credentials with every package costs
	// a comparison and no more.
	last credentials
}

// credentials are a login and a password, and whom they were good for when the users had changed so many times.
type credentials struct {
	login, password []byte
	user            *user // nil when they were not
	changes         uint64
}

// match reports whether these are the given ones, which are compared in constant time.
func (c *credentials) match(login, password []byte) bool {
	return subtle.ConstantTimeCompare(c.login, login)&subtle.ConstantTimeCompare(c.password, password) == 1
}

// user returns whom a package speaks for, nil for nobody in particular. Its own credentials go before the default.
func (c *session) user(f *messages.Frame) (*user, error) {
	id := &c.identity
	switch {
	case f.HasCredentials:
		return c.check(&id.last, f.Login, f.Password)
	case id.authenticated != nil:
		return id.authenticated, nil
	case id.hasDefault:
		return c.check(&id.standard, id.standard.login, id.standard.password)
	}
	return nil, nil
}

// check looks a login and a password up, through a memo of one answer.
func (c *session) check(memo *credentials, login, password []byte) (*user, error) {
	changes := c.server.users.changes.Load()
	if memo.user != nil && memo.changes == changes && memo.match(login, password) {
		return memo.user, nil
	}
	u, err := c.server.signIn(readable(string(login)), readable(string(password)))
	if err != nil { // what is found wrong does not displace what was good
		return nil, err
	}
	memo.login = append(memo.login[:0], login...)
	memo.password = append(memo.password[:0], password...)
	memo.user, memo.changes = u, changes
	return u, nil
}

// authenticate serves Authenticate. Its credentials become the default of the session, wrong ones too.
func (c *session) authenticate(f *messages.Frame) {
	if !f.HasCredentials {
		c.reply(messages.NotAuthenticated, f.ID, textNoCredentials)
		return
	}
	id := &c.identity
	id.hasDefault, id.authenticated = true, nil
	id.standard = credentials{login: bytes.Clone(f.Login), password: bytes.Clone(f.Password)}
	u, err := c.check(&id.standard, f.Login, f.Password)
	if err == nil {
		id.authenticated = u
		c.reply(messages.Authenticated, f.ID, "")
		return
	}
	c.log.LogAttrs(context.Background(), slog.LevelInfo, "authentication failed", slog.Any("err", err))
	switch {
	case errors.Is(err, errUnauthorized):
		c.reply(messages.NotAuthenticated, f.ID, textUnauthorized)
	case errors.Is(err, errOtherLogin):
		c.reply(messages.NotAuthenticated, f.ID, textInternalError)
	default:
		c.reply(messages.NotAuthenticated, f.ID, textNotYetReady)
	}
}

// notAuthenticated answers a package whose credentials were found wrong, or could not be looked up.
func (c *session) notAuthenticated(f *messages.Frame, err error) error {
	switch {
	case errors.Is(err, errUnauthorized):
		c.reply(messages.NotAuthenticated, f.ID, textNotAuthenticated)
	case errors.Is(err, errOtherLogin):
		c.reply(messages.NotAuthenticated, f.ID, textInternalError)
	default:
		c.log.LogAttrs(context.Background(), slog.LevelError, "a user could not be read", slog.Any("err", err))
		return c.replyMessage(messages.NotHandled, f.ID, &pb.NotHandled{Reason: pb.NotHandled_NotReady.Enum()})
	}
	return nil
}
