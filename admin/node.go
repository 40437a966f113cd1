package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Info is what a node says it is.
type Info struct {
	Version     string `json:"esVersion"`
	State       string `json:"state"`           // "master", "leader", ...
	Projections string `json:"projectionsMode"` // "None", "System", "All"; "" where the server does not say
}

// Info returns what the node is.
func (a *Admin) Info(ctx context.Context) (Info, error) {
	var answer Info
	err := a.do(ctx, request{op: "info", method: http.MethodGet, path: "/info", into: &answer})
	return answer, err
}

// Ping returns when the node has answered.
func (a *Admin) Ping(ctx context.Context) error {
	return a.do(ctx, request{op: "ping", method: http.MethodGet, path: "/ping"})
}

// Gossip is what a node knows of its cluster.
type Gossip struct {
	Members    []Member `json:"members"`
	ServerIP   string   `json:"serverIp"`
	ServerPort int      `json:"serverPort"`
}

// Member is a node of a cluster. Ports that are not offered are 0. Servers from version 20 on have one HTTP address, which is
// given as the external one.
type Member struct {
	InstanceID            uuid.UUID `json:"instanceId"`
	TimeStamp             time.Time `json:"timeStamp"`
	State                 string    `json:"state"` // "Master", "Slave", "Leader", "Follower", ...
	Alive                 bool      `json:"isAlive"`
	ExternalTCPIP         string    `json:"externalTcpIp"`
	ExternalTCPPort       int       `json:"externalTcpPort"`
	ExternalSecureTCPPort int       `json:"externalSecureTcpPort"`
	InternalTCPIP         string    `json:"internalTcpIp"`
	InternalTCPPort       int       `json:"internalTcpPort"`
	InternalSecureTCPPort int       `json:"internalSecureTcpPort"`
	ExternalHTTPIP        string    `json:"externalHttpIp"`
	ExternalHTTPPort      int       `json:"externalHttpPort"`
	LastCommitPosition    int64     `json:"lastCommitPosition"`
	WriterCheckpoint      int64     `json:"writerCheckpoint"`
	ChaserCheckpoint      int64     `json:"chaserCheckpoint"`
	EpochPosition         int64     `json:"epochPosition"`
	EpochNumber           int       `json:"epochNumber"`
	EpochID               uuid.UUID `json:"epochId"`
	NodePriority          int       `json:"nodePriority"`
}

// Gossip asks the node for its cluster. A real single node before version 21.10 does not answer, unless it is told to gossip:
// that is ErrTimeout, or the status 408.
func (a *Admin) Gossip(ctx context.Context) (Gossip, error) {
	var answer struct {
		Gossip
		Members []struct {
			Member
			IP   string `json:"httpEndPointIp"`
			Port int    `json:"httpEndPointPort"`
		} `json:"members"`
	}
	err := a.do(ctx, request{op: "gossip", method: http.MethodGet, path: "/gossip?format=json", into: &answer})
	found := answer.Gossip
	for _, m := range answer.Members {
		if m.IP != "" {
			m.ExternalHTTPIP, m.ExternalHTTPPort = m.IP, m.Port
		}
		found.Members = append(found.Members, m.Member)
	}
	return found, err
}

// Stats are the statistics of a node, a tree of names. Which there are depends on the server.
type Stats map[string]any

// Number returns a number of the tree by the names on the way to it, such as "proc", "mem".
func (s Stats) Number(names ...string) (n float64, ok bool) {
	var at any = map[string]any(s)
	for _, name := range names {
		below, isTree := at.(map[string]any)
		if !isTree {
			return 0, false
		}
		at = below[name]
	}
	n, ok = at.(float64)
	return n, ok
}

// Stats returns the node's statistics.
func (a *Admin) Stats(ctx context.Context) (Stats, error) {
	var answer Stats
	err := a.do(ctx, request{op: "stats", method: http.MethodGet, path: "/stats", into: &answer})
	return answer, err
}

// Scavenge has the node remove what was deleted or has expired. It has only begun when this returns; the outcome is in the
// streams $scavenges. For $admins and $ops.
func (a *Admin) Scavenge(ctx context.Context) error {
	return a.do(ctx, request{op: "scavenge", method: http.MethodPost, path: "/admin/scavenge"})
}

// Shutdown ends the node. For $admins and $ops.
func (a *Admin) Shutdown(ctx context.Context) error {
	return a.do(ctx, request{op: "shutdown", method: http.MethodPost, path: "/admin/shutdown"})
}

// Projection is a projection and how far it is.
type Projection struct {
	Name           string  `json:"name"`
	Status         string  `json:"status"` // "Running", "Stopped", "Faulted (...)", or several of them with slashes between
	StateReason    string  `json:"stateReason"`
	Mode           string  `json:"mode"` // "Continuous", ...
	Version        int64   `json:"version"`
	Epoch          int64   `json:"epoch"`
	Position       string  `json:"position"`
	Progress       float64 `json:"progress"` // in per cent
	LastCheckpoint string  `json:"lastCheckpoint"`
	Events         int64   `json:"eventsProcessedAfterRestart"`
	Buffered       int     `json:"bufferedEvents"`
	Writes         int     `json:"writesInProgress"`
	Reads          int     `json:"readsInProgress"`
}

// Running reports whether the projection runs.
func (p *Projection) Running() bool { return strings.Contains(p.Status, "Running") }

// Projections returns all projections. A server without them is ErrNotFound.
func (a *Admin) Projections(ctx context.Context) ([]Projection, error) {
	var answer struct{ Projections []Projection }
	err := a.do(ctx, request{op: "list projections", method: http.MethodGet, path: "/projections/any", into: &answer})
	return answer.Projections, err
}

// Projection returns one projection with its statistics.
func (a *Admin) Projection(ctx context.Context, name string) (Projection, error) {
	var answer Projection
	err := a.do(ctx, request{op: "get projection " + name, method: http.MethodGet, path: segments("projection", name), into: &answer})
	return answer, err
}

// ProjectionState returns the state of a projection, or of one of its partitions. It is JSON; the projections of the system have
// none, which is empty.
func (a *Admin) ProjectionState(ctx context.Context, name, partition string) (json.RawMessage, error) {
	return a.projectionText(ctx, name, "state", partition)
}

// ProjectionResult is ProjectionState for the result.
func (a *Admin) ProjectionResult(ctx context.Context, name, partition string) (json.RawMessage, error) {
	return a.projectionText(ctx, name, "result", partition)
}

func (a *Admin) projectionText(ctx context.Context, name, what, partition string) (json.RawMessage, error) {
	path := segments("projection", name, what)
	if partition != "" {
		path += query("partition", partition)
	}
	var answer []byte
	err := a.do(ctx, request{op: what + " of projection " + name, method: http.MethodGet, path: path, into: &answer})
	return answer, err
}

// EnableProjection has a projection run.
func (a *Admin) EnableProjection(ctx context.Context, name string) error {
	return a.projectionCommand(ctx, name, "enable")
}

// DisableProjection stops a projection, which keeps what it has done. It may run on for a moment.
func (a *Admin) DisableProjection(ctx context.Context, name string) error {
	return a.projectionCommand(ctx, name, "disable")
}

func (a *Admin) projectionCommand(ctx context.Context, name, command string) error {
	return a.do(ctx, request{op: command + " projection " + name, method: http.MethodPost, path: segments("projection", name, "command", command)})
}
