package eventstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/goeventstore/eventstore/cluster"
)

// key is an option that a target can carry as text. docs/settings.md lists them; a test compares.
type key struct {
	name string
	set  func(o *options, value string) error
}

var keys = []key{
	{"name", func(o *options, v string) error { o.name = v; return nil }},
	{"timeout", span(func(o *options) *time.Duration { return &o.timeout })},
	{"heartbeatInterval", span(func(o *options) *time.Duration { return &o.heartbeatInterval })},
	{"heartbeatTimeout", span(func(o *options) *time.Duration { return &o.heartbeatTimeout })},
	{"maxAttempts", number(func(o *options) *int { return &o.maxAttempts }, 0)},
	{"reconnectDelay", func(o *options, v string) error {
		var first time.Duration
		if err := span(func(*options) *time.Duration { return &first })(o, v); err != nil {
			return err
		}
		o.backoff = func() backoff.BackOff { return doubling(first) }
		return nil
	}},
	{"maxInFlight", number(func(o *options) *int { return &o.maxInFlight }, 1)},
	{"maxInFlightBytes", number(func(o *options) *int { return &o.maxInFlightBytes }, 1)},
	{"queue", number(func(o *options) *int { return &o.queued }, 0)},
	{"failFast", boolean(func(o *options) *bool { return &o.failFast })},
	{"readOnly", boolean(func(o *options) *bool { return &o.readOnly })},
	{"authenticate", boolean(func(o *options) *bool { return &o.authenticate })},
	{"requireLeader", func(o *options, v string) error {
		yes, err := parseBool(v)
		o.requireLeader = &yes
		return err
	}},
	{"preference", func(o *options, v string) (err error) {
		o.preference, err = cluster.ParsePreference(v)
		return err
	}},
	{"gossip", func(o *options, v string) error {
		if v != "http" && v != "https" {
			return errors.New("want http or https")
		}
		o.gossipScheme = v
		return nil
	}},
	{"gossipTimeout", span(func(o *options) *time.Duration { return &o.gossipTimeout })},
	{"tls", boolean(func(o *options) *bool { return &o.secure.on })},
	{"tlsCA", func(o *options, v string) error { o.secure.ca = v; return nil }},
	{"tlsServerName", func(o *options, v string) error { o.secure.name = v; return nil }},
	{"tlsInsecureSkipVerify", boolean(func(o *options) *bool { return &o.secure.unverified })},
}

func keyNamed(name string) *key {
	for i := range keys {
		if strings.EqualFold(keys[i].name, name) {
			return &keys[i]
		}
	}
	return nil
}

func keyNames() []string {
	names := make([]string, len(keys))
	for i := range keys {
		names[i] = keys[i].name
	}
	return names
}

func span(field func(*options) *time.Duration) func(*options, string) error {
	return func(o *options, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return errors.New(`want a time such as "1.5s" or "750ms"`)
		}
		*field(o) = d
		return nil
	}
}

func number(field func(*options) *int, least int) func(*options, string) error {
	return func(o *options, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < least {
			return fmt.Errorf("want a number from %d on", least)
		}
		*field(o) = n
		return nil
	}
}

func boolean(field func(*options) *bool) func(*options, string) error {
	return func(o *options, v string) (err error) {
		*field(o), err = parseBool(v)
		return err
	}
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
}

// nearest is the name that is fewest changes of a letter away.
func nearest(name string, names []string) string {
	best, least := "", len(name)+1000
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance is Levenshtein's. What is longer than any name is cut.
func distance(a, b string) int {
	a = a[:min(len(a), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// secure is what a target says about TLS.
type secure struct {
	on         bool
	ca         string // file
	name       string
	unverified bool
}

const maxCA = 1 << 20

// config makes a configuration of it.
func (s *secure) config() (*tls.Config, error) {
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         s.name,
		InsecureSkipVerify: s.unverified, // #nosec G402 -- asked for by the key tlsInsecureSkipVerify
	}
	if s.ca == "" {
		return c, nil
	}
	f, err := os.Open(s.ca)
	if err != nil {
		return nil, argument("key tlsCA: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxCA))
	if err != nil {
		return nil, argument("key tlsCA: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(b) {
		return nil, argument("key tlsCA: %s has no certificate in PEM", s.ca)
	}
	return c, nil
}
