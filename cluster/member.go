package cluster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Member is what a node tells of one node of its cluster, itself included.
type Member struct {
	State  string // the name of its role, as the node spells it: Master, Slave, Leader, Follower, ...
	Alive  bool   // a dead one keeps the state in which it was last seen
	TCP    string // host:port for plain connections, "" when not offered
	Secure string // host:port for TLS, "" when not offered
	HTTP   string // host:port, "" when not told
}

// What a document may be at most. A cluster has a handful of members, some 600 bytes each.
const (
	maxDocument = 1 << 20
	maxMembers  = 256
)

// document is the answer to GET /gossip?format=json, with the keys of servers up to 5 and from 20.6 on.
type document struct {
	Members []struct {
		State                 string `json:"state"`
		IsAlive               bool   `json:"isAlive"`
		ExternalTCPIP         string `json:"externalTcpIp"`
		ExternalTCPPort       int    `json:"externalTcpPort"`
		ExternalSecureTCPPort int    `json:"externalSecureTcpPort"`
		ExternalHTTPIP        string `json:"externalHttpIp"`
		ExternalHTTPPort      int    `json:"externalHttpPort"`
		HTTPEndPointIP        string `json:"httpEndPointIp"`
		HTTPEndPointPort      int    `json:"httpEndPointPort"`
	} `json:"members"`
}

// parse reads a document.
func parse(b []byte) ([]Member, error) {
	var d document
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("the answer is no gossip: %w", err)
	}
	switch {
	case len(d.Members) == 0:
		return nil, errors.New("the answer has no members")
	case len(d.Members) > maxMembers:
		return nil, fmt.Errorf("the answer has %d members, at most %d are taken", len(d.Members), maxMembers)
	}
	members := make([]Member, len(d.Members))
	for i, m := range d.Members {
		members[i] = Member{
			State:  m.State,
			Alive:  m.IsAlive,
			TCP:    address(m.ExternalTCPIP, m.ExternalTCPPort),
			Secure: address(m.ExternalTCPIP, m.ExternalSecureTCPPort),
			HTTP:   address(m.ExternalHTTPIP, m.ExternalHTTPPort),
		}
		if members[i].HTTP == "" {
			members[i].HTTP = address(m.HTTPEndPointIP, m.HTTPEndPointPort)
		}
	}
	return members, nil
}

// address joins what makes one, else it is "".
func address(host string, port int) string {
	if host == "" || port < 1 || port > 65535 || strings.ContainsAny(host, "/@?# \t\r\n") {
		return ""
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// String names the member by an address and its state.
func (m Member) String() string {
	return fmt.Sprintf("%s (%q)", cmp.Or(m.TCP, m.Secure, m.HTTP, "a member without an address"), m.State)
}

// kind folds the two vocabularies into one.
func kind(state string) string {
	switch state {
	case "Master":
		return "Leader"
	case "PreMaster":
		return "PreLeader"
	case "Slave":
		return "Follower"
	}
	return state
}
