package eventstore

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goeventstore/eventstore/cluster"
)

// isConnectionString tells the .NET form from a URL: a key of letters and spaces comes first.
func isConnectionString(s string) bool {
	name, _, found := strings.Cut(s, "=")
	return found && strings.TrimSpace(name) != "" && strings.IndexFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsSpace(r)
	}) < 0
}

// netKey is a setting of the .NET client. It is the key of ours that it is translated to, or has no effect because ours
// does without: note says why, and is in docs/settings.md.
type netKey struct {
	name  string
	key   string                         // of ours
	value func(v string) (string, error) // translates; "" for the default of ours
	check func(v string) error           // of one without effect
	note  string
}

var netKeys = []netKey{
	{name: "ConnectTo"},
	{name: "ClusterDns"},
	{name: "GossipSeeds"},
	{name: "ExternalGossipPort"},
	{name: "GossipPort"},
	{name: "DefaultUserCredentials"},
	{name: "MaxConcurrentItems", key: "maxInFlight", value: asIs},
	{name: "MaxRetries", key: "maxAttempts", value: retries},
	{name: "RequireMaster", key: "requireLeader", value: lower},
	{name: "RequireLeader", key: "requireLeader", value: lower},
	{name: "ReconnectionDelay", key: "reconnectDelay", value: milliseconds},
	{name: "OperationTimeout", key: "timeout", value: milliseconds},
	{name: "HeartbeatInterval", key: "heartbeatInterval", value: milliseconds},
	{name: "HeartbeatTimeout", key: "heartbeatTimeout", value: milliseconds},
	{name: "UseSslConnection", key: "tls", value: lower},
	{name: "TargetHost", key: "tlsServerName", value: asIs},
	{name: "ValidateServer", key: "tlsInsecureSkipVerify", value: not},
	{name: "SkipCertificateValidation", key: "tlsInsecureSkipVerify", value: lower},
	{name: "GossipTimeout", key: "gossipTimeout", value: milliseconds},
	{name: "NodePreference", key: "preference", value: preference},
	{name: "MaxQueueSize", check: isNumber, note: "callers wait for a place in flight, however many there are"},
	{name: "MaxReconnections", check: isNumber, note: "reconnecting never ends"},
	{name: "MaxDiscoverAttempts", check: isNumber, note: "reconnecting never ends"},
	{name: "ClientConnectionTimeout", check: isNumber, note: "OperationTimeout holds for connecting too"},
	{name: "OperationTimeoutCheckPeriod", check: isNumber, note: "time-outs are exact"},
	{name: "VerboseLogging", check: isBool, note: "the level of the given logger decides"},
	{name: "CompatibilityMode", check: isMode, note: "every version is understood"},
	{name: "QueueTimeout", check: isOff, note: "only 0: the context of a call bounds its waiting"},
	{name: "FailOnNoServerResponse", check: isFalse, note: "only false: maxAttempts or the context of a call bounds its attempts"},
}

func asIs(v string) (string, error)  { return v, nil }
func lower(v string) (string, error) { return strings.ToLower(v), nil }

func not(v string) (string, error) {
	b, err := parseBool(v)
	return strconv.FormatBool(!b), err
}

func milliseconds(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > int(24*time.Hour/time.Millisecond) {
		return "", errors.New("want milliseconds, up to a day")
	}
	return (time.Duration(n) * time.Millisecond).String(), nil
}

// retries has -1 for no end, and counts those after the first attempt.
func retries(v string) (string, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < -1 || n == int(^uint(0)>>1) {
		return "", errors.New("want a number from -1 on")
	}
	return strconv.Itoa(n + 1), nil
}

func preference(v string) (string, error) {
	p, err := cluster.ParsePreference(v)
	return p.String(), err
}

func isNumber(v string) error {
	if _, err := strconv.Atoi(v); err != nil {
		return errors.New("want a number")
	}
	return nil
}

func isBool(v string) error {
	_, err := parseBool(v)
	return err
}

func isMode(v string) error {
	switch strings.ToLower(v) {
	case "disabled", "auto", "5", "20":
		return nil
	}
	return errors.New("want disabled, auto, 5 or 20")
}

func isOff(v string) error {
	if v != "0" {
		return errors.New("has no meaning here but 0: give each call a context with a deadline")
	}
	return nil
}

func isFalse(v string) error {
	if b, err := parseBool(v); err != nil || b {
		return errors.New("has no meaning here but false: bound the attempts by maxAttempts, or give each call a context with a deadline")
	}
	return nil
}

// parseConnectionString reads key=value;key=value. Keys are known whatever their case, and with spaces inside.
func parseConnectionString(s string) (Target, error) {
	given := make(map[string]string)
	t := Target{}
	for part := range strings.SplitSeq(s, ";") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		name, value, found := strings.Cut(part, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found {
			// It may be the rest of a password with a semicolon in it.
			return Target{}, argument("connection string: behind a semicolon stands no key=value; in a password, write %%3B for a semicolon")
		}
		k := netKeyNamed(name)
		if k == nil {
			return Target{}, argument("connection string: unknown key %q, did you mean %q?", name, nearest(squeeze(name), netKeyNames()))
		}
		if _, twice := given[k.name]; twice {
			return Target{}, argument("connection string: key %s is given twice", k.name)
		}
		given[k.name] = value
		if err := k.translate(&t, value); err != nil {
			return Target{}, argument("connection string: key %s: %w", k.name, err)
		}
	}
	if err := t.place(given); err != nil {
		return Target{}, argument("connection string: %w", err)
	}
	if t.settings["tls"] != "true" && t.settings["gossip"] != "https" { // where they stand they have no effect
		delete(t.settings, "tlsServerName")
		delete(t.settings, "tlsInsecureSkipVerify")
	}
	if err := t.check(); err != nil {
		return Target{}, argument("connection string: %w", err)
	}
	return t, nil
}

func (k *netKey) translate(t *Target, value string) error {
	switch {
	case k.check != nil:
		return k.check(value)
	case k.value == nil: // place reads it
		return nil
	}
	v, err := k.value(value)
	if err != nil {
		return err
	}
	return t.set(keyNamed(k.key), v)
}

// place reads the keys that say where, and as whom.
func (t *Target) place(given map[string]string) error {
	if user, found := given["DefaultUserCredentials"]; found {
		var colon bool
		t.user, t.password, colon = strings.Cut(user, ":")
		if !colon || t.user == "" {
			return errors.New("DefaultUserCredentials: want user:password")
		}
	}
	port, err := gossipPort(given)
	if err != nil {
		return err
	}
	connect, one := given["ConnectTo"]
	name, dns := given["ClusterDns"]
	seeds, gossip := given["GossipSeeds"]
	switch {
	case one && !gossip && !dns:
		return t.connectTo(connect, port)
	case dns && !gossip && !one:
		t.Scheme = "discover"
		return t.address(name, port)
	case gossip && !one && !dns:
		return t.seeds(seeds)
	}
	return errors.New("want one of ConnectTo, ClusterDns and GossipSeeds")
}

func gossipPort(given map[string]string) (int, error) {
	for _, name := range []string{"GossipPort", "ExternalGossipPort"} {
		if v, found := given[name]; found {
			n, err := strconv.Atoi(v)
			if err != nil || n < 1 || n > 65535 {
				return 0, errors.New(name + ": want 1 to 65535")
			}
			return n, nil
		}
	}
	return DefaultGossipPort, nil
}

func (t *Target) connectTo(v string, gossipPort int) error {
	u, err := url.Parse(v)
	if err != nil { // its text may have the password in it
		return errors.New("ConnectTo: no URL; want tcp://user:password@host:port or discover://user:password@name:port")
	}
	port := DefaultPort
	switch u.Scheme {
	case "tcp":
	case "discover":
		port = gossipPort
	default:
		return errors.New("ConnectTo: want tcp:// or discover://")
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("ConnectTo: nothing may stand behind the port")
	}
	if u.User != nil { // it beats DefaultUserCredentials
		t.user = u.User.Username()
		t.password, _ = u.User.Password()
	}
	t.Scheme = u.Scheme
	return t.address(u.Host, port)
}

func (t *Target) address(v string, port int) error {
	addr, err := hostPort(v, port)
	t.add(addr)
	return err
}

// seeds reads host:port,host:port, each of which may say how it is asked.
func (t *Target) seeds(v string) error {
	scheme := ""
	for i, seed := range strings.Split(v, ",") {
		how, host, found := strings.Cut(strings.TrimSpace(seed), "://")
		if !found {
			how, host = "", how
		}
		if i > 0 && how != scheme || how != "" && how != "http" && how != "https" {
			return errors.New("GossipSeeds: want all with http://, all with https://, or none with either")
		}
		scheme = how
		if err := t.address(strings.TrimSuffix(host, "/"), DefaultGossipPort); err != nil {
			return err
		}
	}
	t.Scheme = "gossip"
	if scheme != "" {
		return t.set(keyNamed("gossip"), scheme)
	}
	return nil
}

// squeeze takes the spaces out of a key.
func squeeze(name string) string { return strings.Join(strings.Fields(name), "") }

func netKeyNamed(name string) *netKey {
	for i := range netKeys {
		if strings.EqualFold(netKeys[i].name, squeeze(name)) {
			return &netKeys[i]
		}
	}
	return nil
}

func netKeyNames() []string {
	names := make([]string, len(netKeys))
	for i := range netKeys {
		names[i] = netKeys[i].name
	}
	return names
}
