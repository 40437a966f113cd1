package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Resolver says which node to dial. A client asks it before each attempt to connect, from one goroutine at a time, and
// dials what it answers: an address, host:port, of a node's TCP port. With TLS the host is the name that the certificate
// must be for, unless the TLS configuration names another.
type Resolver interface {
	Resolve(ctx context.Context) (addr string, err error)
}

// Static is the Resolver of one address.
type Static string

// Resolve returns the address.
func (s Static) Resolve(context.Context) (string, error) { return string(s), nil }

// Preference says which kind of node to pick.
type Preference int

// The preferences. The others follow in the order of their use where there is none of the wanted kind.
const (
	Leader          Preference = iota // the one that writes
	Follower                          // one that reads from its own copy, and passes writes on
	ReadOnlyReplica                   // one that never votes; servers from 20.6
	Random                            // any of these three
)

var preferenceNames = [...]string{"leader", "follower", "readOnlyReplica", "random"}

// String returns the preference as a target spells it: leader, follower, readOnlyReplica, random.
func (p Preference) String() string {
	if p < 0 || int(p) >= len(preferenceNames) {
		return fmt.Sprintf("Preference(%d)", int(p))
	}
	return preferenceNames[p]
}

// ParsePreference reads what String returns, in any case, and the names master and slave of older servers.
func ParsePreference(s string) (Preference, error) {
	switch strings.ToLower(s) {
	case "leader", "master":
		return Leader, nil
	case "follower", "slave":
		return Follower, nil
	case "readonlyreplica":
		return ReadOnlyReplica, nil
	case "random":
		return Random, nil
	}
	return 0, fmt.Errorf("preference %q: want leader, follower, readOnlyReplica or random", s)
}

var (
	// ErrNoNode says that nodes told of the cluster, and no member fits. Beside it stands every member with the reason.
	ErrNoNode = errors.New("no node of the cluster fits")
	// ErrNoGossip says that no node told of the cluster. Beside it stands what each answered.
	ErrNoGossip = errors.New("no node tells of the cluster")
	// ErrRefused says that asking again is no use: the nodes speak HTTP where HTTPS was asked for, or the other way round, or
	// their certificate is not accepted.
	ErrRefused = errors.New("not a gossip port for this kind of connection")
)
