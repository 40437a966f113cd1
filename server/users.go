package server

import (
	"bytes"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // what a real server hashes passwords with
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// userPrefix in front of a login makes the name of the stream whose last event says everything about the user (5.1).
const userPrefix = "$user-"

// userData is the data of that event.
type userData struct {
	LoginName string   `json:"loginName"`
	FullName  string   `json:"fullName"`
	Salt      string   `json:"salt"`
	Hash      string   `json:"hash"`
	Disabled  bool     `json:"disabled,omitempty"`
	Groups    []string `json:"groups,omitzero"`
}

// encode returns the data as a real server writes them.
func (d *userData) encode() []byte { return encodeIndented(d) }

// encodeIndented is JSON as a real server writes most of its own.
func encodeIndented(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // texts and their lists into memory: it cannot fail
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// How a real server hashes passwords.
const (
	hashIterations = 1000
	hashSize       = 20
	saltSize       = 16
	minSaltSize    = 8
)

// setPassword hashes a password with a new salt.
func (d *userData) setPassword(password string) {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // it never fails
	d.Salt, d.Hash = base64.StdEncoding.EncodeToString(salt), hashOf(password, salt)
}

// verify reports whether the password is the user's. It takes a while, on purpose.
func (d *userData) verify(password string) bool {
	salt, err := base64.StdEncoding.DecodeString(d.Salt)
	if err != nil || len(salt) < minSaltSize {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(hashOf(password, salt)), []byte(d.Hash)) == 1
}

func hashOf(password string, salt []byte) string {
	key, err := pbkdf2.Key(sha1.New, password, salt, hashIterations, hashSize)
	if err != nil {
		return "-" // no hash is that: nobody gets in where SHA-1 is forbidden
	}
	return base64.StdEncoding.EncodeToString(key)
}

// account is what one event says of a user, with what is known of the password.
type account struct {
	number int64 // of the event
	data   userData
	user   *user

	// A digest of the right password once it was given, and of the wrong one that was given last: no password is hashed
	// twice, and once the right one is known no wrong one either.
	right, wrong atomic.Pointer[[sha256.Size]byte]
}

// users remembers the accounts. An event never changes, so that what is remembered of it is right for ever.
type users struct {
	// changes is how often users' streams have changed; what was found out about somebody holds as long as it is the same.
	changes atomic.Uint64

	mu      sync.Mutex
	byLogin map[string]*account

	// hashing is held while a password is hashed, so that a flood of wrong ones has one processor, not all.
	hashing sync.Mutex
}

// maxAccounts is how many accounts are remembered; all are forgotten when there are more.
const maxAccounts = 10_000

// Why somebody cannot sign in.
var (
	errUnauthorized = errors.New("unknown login, wrong password or disabled user")
	errOtherLogin   = errors.New("the user's stream tells of another login")
)

// signIn returns the user with this login and password. How long it takes does not depend on how much of the password is
// right. Any error but the two above is the store's.
func (s *Server) signIn(login, password string) (*user, error) {
	a, err := s.account(login)
	switch {
	case err != nil:
		return nil, err
	case a.data.LoginName != login:
		return nil, errOtherLogin
	case a.data.Disabled || !s.users.check(a, password):
		return nil, errUnauthorized
	}
	return a.user, nil
}

// account returns the account that a login has now.
func (s *Server) account(login string) (*account, error) {
	_, event, err := s.view().event(userPrefix+login, -1)
	if err != nil {
		return nil, err
	}
	if event == nil {
		return nil, errUnauthorized
	}
	s.users.mu.Lock()
	a := s.users.byLogin[login]
	s.users.mu.Unlock()
	if a != nil && a.number == event.Number {
		return a, nil
	}
	data, ok := parseUser(event)
	if !ok {
		return nil, errUnauthorized
	}
	a = &account{number: event.Number, data: data, user: &user{login: login, roles: append(slices.Clone(data.Groups), login)}}
	s.users.remember(login, a)
	return a, nil
}

func parseUser(event *store.Record) (data userData, ok bool) {
	var d *userData
	if err := json.Unmarshal(dataOf(event.Encoded), &d); err != nil || d == nil {
		return userData{}, false
	}
	return *d, true
}

func (u *users) remember(login string, a *account) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byLogin == nil || len(u.byLogin) >= maxAccounts {
		u.byLogin = make(map[string]*account)
	}
	u.byLogin[strings.Clone(login)] = a
}

// check reports whether the password is the account's.
func (u *users) check(a *account, password string) bool {
	given := sha256.Sum256([]byte(password))
	if good, known := a.remembers(&given); known {
		return good
	}
	u.hashing.Lock()
	defer u.hashing.Unlock()
	if good, known := a.remembers(&given); known { // somebody else had the same to ask
		return good
	}
	good := a.data.verify(password)
	if good {
		a.right.Store(&given)
	} else {
		a.wrong.Store(&given)
	}
	return good
}

// verify is the data's own, one at a time.
func (u *users) verify(d *userData, password string) bool {
	u.hashing.Lock()
	defer u.hashing.Unlock()
	return d.verify(password)
}

// remembers tells what is known of a password without hashing it.
func (a *account) remembers(given *[sha256.Size]byte) (good, known bool) {
	if right := a.right.Load(); right != nil {
		return subtle.ConstantTimeCompare(right[:], given[:]) == 1, true
	}
	wrong := a.wrong.Load()
	return false, wrong != nil && *wrong == *given
}

// isUserStream reports whether a stream is a user's, or the metastream of one.
func isUserStream(stream string) bool {
	return strings.HasPrefix(strings.TrimPrefix(stream, metaPrefix), userPrefix)
}
