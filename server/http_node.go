package server

import (
	"cmp"
	"net"
	"net/http"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// nodeIdentity is what the gossip document says of the node that does not change (6.1).
type nodeIdentity struct {
	instance, epoch   uuid.UUID
	tcp, secure, http endpoint
	projectionsSystem bool
}

type endpoint struct {
	ip   string
	port int
}

func (e endpoint) compare(o endpoint) int {
	return cmp.Or(strings.Compare(e.ip, o.ip), cmp.Compare(e.port, o.port))
}

func (e endpoint) String() string { return net.JoinHostPort(e.ip, strconv.Itoa(e.port)) }

func newNodeIdentity(s *Server, side *httpSide, cfg *Config) nodeIdentity {
	n := nodeIdentity{
		instance: uuid.New(), epoch: uuid.New(), // NewID is the writer's
		tcp: endpointOf(s.url), secure: endpointOf(s.SecureURL()), http: endpointOf(side.url), projectionsSystem: cfg.Projections,
	}
	if s.dialect.TLS { // the address is the same, and its port is the secure one
		n.secure.port, n.tcp.port = n.tcp.port, 0
	}
	return n
}

// endpointOf takes an address apart that has a scheme in front.
func endpointOf(address string) endpoint {
	_, hostPort, _ := strings.Cut(address, "://")
	host, port, _ := net.SplitHostPort(hostPort)
	n, _ := strconv.Atoi(port)
	return endpoint{host, n}
}

func (a *httpAPI) nodeRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/ping", serve: servePing},
		{method: http.MethodGet, path: "/health/live", serve: serveLive},
		{method: http.MethodGet, path: "/health/ready", serve: (*httpCall).ready},
		{method: http.MethodGet, path: "/info", serve: (*httpCall).info, gives: jsonOnly},
		{method: http.MethodGet, path: "/gossip", serve: (*httpCall).gossip, gives: jsonOnly},
		{method: http.MethodGet, path: "/stats", serve: (*httpCall).stats, gives: jsonOnly},
		{method: http.MethodGet, path: "/stats/{part}", serve: (*httpCall).stats, gives: jsonOnly},
		{method: http.MethodGet, path: "/stats/{part}/{part}", serve: (*httpCall).stats, gives: jsonOnly},
		{method: http.MethodGet, path: "/stats/tcp", serve: (*httpCall).tcpStats, gives: jsonOnly},
		{method: http.MethodPost, path: "/admin/scavenge", serve: (*httpCall).startScavenge},
		{method: http.MethodPost, path: "/admin/shutdown", serve: (*httpCall).shutDown},
	}
}

// pings are the answers to GET /ping by media type (6.3).
var pings = map[string]string{
	"application/json": "{\n  \"msgTypeId\": 177,\n  \"text\": \"Ping request successfully handled\"\n}",
	"application/xml":  pingXML,
	"text/xml":         pingXML,
	"text/plain":       "Text: Ping request successfully handled",
}

const pingXML = `<?xml version="1.0" encoding="utf-8"?><TextMessage xmlns:xsd="http://www.w3.org/2001/XMLSchema" ` +
	`xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><Text>Ping request successfully handled</Text></TextMessage>`

// pingMedia are those media types as a real server goes through them.
var pingMedia = []string{mediaJSON, "text/xml", "application/xml", mediaPlain}

func servePing(c *httpCall) httpAnswer {
	media := choose(c.Request, pingMedia)
	if media == "" {
		return httpAnswer{status: http.StatusNotAcceptable, reason: reasonNoSuchFormat}
	}
	return httpAnswer{status: http.StatusOK, media: media, body: []byte(pings[media])}
}

// serveLive answers as real servers from 20.6 on do.
func serveLive(*httpCall) httpAnswer { return httpAnswer{status: http.StatusNoContent} }

// ready tells whether requests are taken. No real server has it.
func (c *httpCall) ready() httpAnswer {
	if c.leaving.Load() {
		return httpAnswer{status: http.StatusServiceUnavailable, media: mediaPlain, body: []byte("shutting down\n")}
	}
	if c.Server.node != nil && !c.Server.node.serves() {
		return httpAnswer{status: http.StatusServiceUnavailable, media: mediaPlain, body: []byte("no leader is known\n")}
	}
	return httpAnswer{status: http.StatusOK, media: mediaPlain, body: []byte("ready\n")}
}

func (c *httpCall) info() httpAnswer {
	mode := "None"
	if c.node.projectionsSystem {
		mode = "System"
	}
	return c.json(http.StatusOK, struct {
		Version     string `json:"esVersion"`
		State       string `json:"state"`
		Projections string `json:"projectionsMode"`
	}{c.dialect.version(), strings.ToLower(c.role()), mode})
}

// member is what the gossip document says of a node.
type member struct {
	InstanceID            uuid.UUID `json:"instanceId"`
	TimeStamp             string    `json:"timeStamp"`
	State                 string    `json:"state"`
	IsAlive               bool      `json:"isAlive"`
	InternalTCPIP         string    `json:"internalTcpIp"`
	InternalTCPPort       int       `json:"internalTcpPort"`
	InternalSecureTCPPort int       `json:"internalSecureTcpPort"`
	ExternalTCPIP         string    `json:"externalTcpIp"`
	ExternalTCPPort       int       `json:"externalTcpPort"`
	ExternalSecureTCPPort int       `json:"externalSecureTcpPort"`
	*httpPorts
	*httpEndPoint
	LastCommitPosition int64     `json:"lastCommitPosition"`
	WriterCheckpoint   int64     `json:"writerCheckpoint"`
	ChaserCheckpoint   int64     `json:"chaserCheckpoint"`
	EpochPosition      int64     `json:"epochPosition"`
	EpochNumber        int       `json:"epochNumber"`
	EpochID            uuid.UUID `json:"epochId"`
	NodePriority       int       `json:"nodePriority"`
	IsReadOnlyReplica  *bool     `json:"isReadOnlyReplica,omitempty"` // since there are such
	Version            string    `json:"esVersion,omitempty"`         // since 23.10

	order endpoint // of the members of a cluster
}

// httpPorts are the addresses of HTTP in the gossip of nodes that are masters and slaves.
type httpPorts struct {
	InternalHTTPIP   string `json:"internalHttpIp"`
	InternalHTTPPort int    `json:"internalHttpPort"`
	ExternalHTTPIP   string `json:"externalHttpIp"`
	ExternalHTTPPort int    `json:"externalHttpPort"`
}

// httpEndPoint is the one that leaders and followers have.
type httpEndPoint struct {
	IP   string `json:"httpEndPointIp"`
	Port int    `json:"httpEndPointPort"`
}

// gossip answers as a real single node does that was told to gossip. One that was not lets the caller wait in vain. A node of a cluster
// tells what it knows.
func (c *httpCall) gossip() httpAnswer {
	if n := c.Server.node; n != nil {
		return c.clusterGossip(n)
	}
	tip := c.store.Tip()
	m := c.dialect.member(&c.node, c.role())
	m.InstanceID, m.TimeStamp, m.IsAlive = c.node.instance, time.Now().UTC().Format(httpTime), true
	m.LastCommitPosition, m.WriterCheckpoint, m.ChaserCheckpoint, m.EpochID = tip.Commit, tip.End, tip.End, c.node.epoch
	return c.json(http.StatusOK, gossipDocument{[]member{m}, c.node.http.ip, c.node.http.port})
}

// gossipDocument is what GET /gossip tells.
type gossipDocument struct {
	Members []member `json:"members"`
	IP      string   `json:"serverIp"`
	Port    int      `json:"serverPort"`
}

// member is what gossip says of a node that does not change while it runs.
func (d *Dialect) member(n *nodeIdentity, state string) member {
	m := member{
		State: state, InternalTCPIP: n.tcp.ip, InternalTCPPort: n.tcp.port, ExternalTCPIP: n.tcp.ip, ExternalTCPPort: n.tcp.port,
		InternalSecureTCPPort: n.secure.port, ExternalSecureTCPPort: n.secure.port,
	}
	if d.LeaderNames {
		m.httpEndPoint, m.IsReadOnlyReplica = &httpEndPoint{n.http.ip, n.http.port}, new(bool)
	} else {
		m.httpPorts = &httpPorts{n.http.ip, n.http.port, n.http.ip, n.http.port}
	}
	if d.generation >= generation2310 {
		m.Version = d.version()
	}
	return m
}

// httpTime is how .NET writes a time in UTC: in ticks, without zeros at the end.
const httpTime = "2006-01-02T15:04:05.9999999Z07:00"

// statistics are those of the keys of a real server that mean something here.
func (c *httpCall) statistics() map[string]any {
	tip := c.store.Tip()
	memory := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(memory)
	c.mu.Lock()
	connections := len(c.sessions)
	c.mu.Unlock()
	return map[string]any{
		"proc": map[string]any{
			"startTime":    c.started.UTC().Format(httpTime),
			"id":           os.Getpid(),
			"mem":          memory[0].Value.Uint64(),
			"threadsCount": memory[1].Value.Uint64(),
			"tcp":          map[string]any{"connections": connections},
		},
		"es": map[string]any{
			"checksum":           tip.End,
			"checksumNonFlushed": tip.End,
		},
	}
}

func (c *httpCall) stats() httpAnswer {
	found := c.statistics()
	for _, name := range c.vars {
		below, ok := found[name].(map[string]any)
		if !ok {
			return httpAnswer{status: http.StatusNotFound, media: mediaPlain}
		}
		found = below
	}
	if strings.EqualFold(c.URL.Query().Get("group"), "false") {
		flat := make(map[string]any)
		flatten(flat, "", found)
		found = flat
	}
	return c.json(http.StatusOK, found, cacheForASecond...)
}

var cacheForASecond = []string{"Cache-Control", "max-age=1, public", "Vary", "Accept"}

// flatten puts the leaves of a tree side by side, each by the names on the way to it.
func flatten(to map[string]any, prefix string, tree map[string]any) {
	for name, value := range tree {
		if below, ok := value.(map[string]any); ok {
			flatten(to, prefix+name+"-", below)
			continue
		}
		to[prefix+name] = value
	}
}

// tcpStats lists the connections of clients.
func (c *httpCall) tcpStats() httpAnswer {
	type connection struct {
		Remote   string `json:"remoteEndPoint"`
		Local    string `json:"localEndPoint"`
		Received int64  `json:"totalBytesReceived"`
		External bool   `json:"isExternalConnection"`
		Secure   bool   `json:"isSslConnection"`
	}
	all := []connection{}
	c.mu.Lock()
	for s := range c.sessions {
		all = append(all, connection{s.addr, s.conn.LocalAddr().String(), s.received.Load(), true, false})
	}
	c.mu.Unlock()
	return c.json(http.StatusOK, all, cacheForASecond...)
}

// operates reports whether a user may do what keeps a server running.
func (u *user) operates() bool { return u.admin() || u.in(roleOps) }

func (c *httpCall) startScavenge() httpAnswer {
	if !c.user.operates() {
		return httpAnswer{status: http.StatusUnauthorized}
	}
	c.scavenge(c.user)
	return httpAnswer{status: http.StatusOK}
}

func (c *httpCall) shutDown() httpAnswer {
	if !c.user.operates() {
		return httpAnswer{status: http.StatusUnauthorized}
	}
	return httpAnswer{status: http.StatusOK, header: []string{"Content-Length", "0"}, then: c.shutdown()}
}
