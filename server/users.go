package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"sync"
	"sync/atomic"
)

// user is somebody who has signed in. A nil user is anonymous.
type user struct {
	login  string
	groups []string
}

// admin reports whether the user may do everything.
func (u *user) admin() bool { return u.in("$admins") }

func (u *user) in(group string) bool {
	return u != nil && slices.Contains(u.groups, group)
}

// users is who may sign in. It may be asked from any goroutine, and remembering an answer is right for as long as the
// version stays the same.
type users struct {
	changes atomic.Uint64

	mu      sync.Mutex
	byLogin map[string]account
}

type account struct {
	user     *user
	password [sha256.Size]byte
}

// newUsers returns the users that a real server begins with (4.18).
func newUsers() *users {
	u := &users{byLogin: make(map[string]account)}
	u.put("admin", "changeit", "$admins")
	u.put("ops", "changeit", "$ops")
	return u
}

func (u *users) put(login, password string, groups ...string) {
	u.mu.Lock()
	u.byLogin[login] = account{user: &user{login: login, groups: groups}, password: sha256.Sum256([]byte(password))}
	u.mu.Unlock()
	u.changes.Add(1)
}

// version changes with every change of a user.
func (u *users) version() uint64 { return u.changes.Load() }

// find returns the user with this login and password. How long it takes does not depend on how much of the password is
// right. Logins and passwords are compared byte for byte.
func (u *users) find(login, password []byte) (*user, bool) {
	u.mu.Lock()
	a, known := u.byLogin[string(login)]
	u.mu.Unlock()
	given := sha256.Sum256(password)
	same := subtle.ConstantTimeCompare(given[:], a.password[:]) == 1
	if !known || !same {
		return nil, false
	}
	return a.user, true
}
