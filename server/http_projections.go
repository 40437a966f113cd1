package server

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// The message types that a real server shows in its answers (6.5).
const (
	typeProjectionUpdated = 293
	typeProjectionConfig  = 308
)

// projectionRoutes are none in a server without projections, as on a real one.
func (a *httpAPI) projectionRoutes() []route {
	get := func(path string, serve func(*httpCall) httpAnswer) route {
		return route{method: http.MethodGet, path: path, serve: withProjections(serve), gives: jsonOnly}
	}
	list := (*httpCall).listProjections
	none := func(c *httpCall) httpAnswer { return c.projectionList(nil) }
	one := func(path string, serve func(*httpCall, *projectionState) httpAnswer) route {
		return get("/projection/{name}"+path, ofProjection(serve))
	}
	command := func(name string, enable bool) route {
		return route{
			method: http.MethodPost, path: "/projection/{name}/command/" + name, gives: jsonOnly,
			serve: withProjections(func(c *httpCall) httpAnswer { return c.enableProjection(enable) }),
		}
	}
	return []route{
		get("/projections/any", list), get("/projections/all-non-transient", list), get("/projections/continuous", list),
		get("/projections/onetime", none), get("/projections/transient", none),
		one("", func(c *httpCall, p *projectionState) httpAnswer {
			return c.json(http.StatusOK, c.projectionItem(p), neverCached...)
		}),
		one("/statistics", func(c *httpCall, p *projectionState) httpAnswer {
			return c.projectionList([]projectionState{*p})
		}),
		// What a system projection has found is in its streams.
		one("/state", (*httpCall).projectionState), one("/result", (*httpCall).projectionState),
		one("/config", (*httpCall).projectionConfig),
		command("enable", true), command("disable", false),
		{method: http.MethodDelete, path: "/projection/{name}", gives: jsonOnly, serve: withProjections(ofProjection((*httpCall).deleteProjection))},
	}
}

var neverCached = []string{"Cache-Control", "max-age=0, no-cache, must-revalidate", "Vary", "Accept"}

func withProjections(serve func(*httpCall) httpAnswer) func(*httpCall) httpAnswer {
	return func(c *httpCall) httpAnswer {
		if c.projector == nil {
			return httpAnswer{status: http.StatusNotFound}
		}
		return serve(c)
	}
}

// ofProjection is a resource of one projection.
func ofProjection(serve func(*httpCall, *projectionState) httpAnswer) func(*httpCall) httpAnswer {
	return func(c *httpCall) httpAnswer {
		known := c.projector.states()
		for i := range known {
			if known[i].name == c.vars[0] {
				return serve(c, &known[i])
			}
		}
		return noProjection
	}
}

var noProjection = httpAnswer{status: http.StatusNotFound, media: mediaPlain, body: []byte("Not Found")}

// keptProjection is the answer to who wants to delete one.
var keptProjection = httpAnswer{
	status: http.StatusInternalServerError, reason: "Failed", media: mediaPlain,
	body: []byte("We currently don't allow for the deletion of System Projections."),
}

// httpProjectionItem is what is told of a projection (6.5).
type httpProjectionItem struct {
	CoreProcessingTime int64   `json:"coreProcessingTime"`
	Version            int64   `json:"version"`
	Epoch              int64   `json:"epoch"`
	EffectiveName      string  `json:"effectiveName"`
	Writes             int     `json:"writesInProgress"`
	Reads              int     `json:"readsInProgress"`
	Partitions         int     `json:"partitionsCached"`
	Status             string  `json:"status"`
	StateReason        string  `json:"stateReason"`
	Name               string  `json:"name"`
	Mode               string  `json:"mode"`
	Position           string  `json:"position"`
	Progress           float64 `json:"progress"`
	LastCheckpoint     string  `json:"lastCheckpoint"`
	Events             int64   `json:"eventsProcessedAfterRestart"`
	StatusURL          string  `json:"statusUrl"`
	StateURL           string  `json:"stateUrl"`
	ResultURL          string  `json:"resultUrl"`
	QueryURL           string  `json:"queryUrl"`
	EnableURL          string  `json:"enableCommandUrl"`
	DisableURL         string  `json:"disableCommandUrl"`
	CheckpointStatus   string  `json:"checkpointStatus"`
	Buffered           int     `json:"bufferedEvents"`
	PendingBefore      int     `json:"writePendingEventsBeforeCheckpoint"`
	PendingAfter       int     `json:"writePendingEventsAfterCheckpoint"`
}

func (c *httpCall) projectionItem(p *projectionState) httpProjectionItem {
	url := c.link("/projection/" + p.name) // names of the system, which need no escaping
	status := "Running"
	if !p.running {
		status = "Stopped"
	}
	return httpProjectionItem{
		Version: p.version, Epoch: -1, EffectiveName: p.name, Partitions: 1, Status: status, Name: p.name, Mode: "Continuous",
		Position: positionText(p.position), Progress: p.progress, LastCheckpoint: positionText(p.checkpoint), Events: p.events,
		StatusURL: url, StateURL: url + "/state", ResultURL: url + "/result", QueryURL: url + "/query%3Fconfig=yes",
		EnableURL: url + "/command/enable", DisableURL: url + "/command/disable",
	}
}

func positionText(p store.Position) string { return fmt.Sprintf("C:%d/P:%d", p.Commit, p.Prepare) }

func (c *httpCall) listProjections() httpAnswer { return c.projectionList(c.projector.states()) }

func (c *httpCall) projectionList(list []projectionState) httpAnswer {
	items := []httpProjectionItem{}
	for i := range list {
		items = append(items, c.projectionItem(&list[i]))
	}
	return c.json(http.StatusOK, struct {
		Projections []httpProjectionItem `json:"projections"`
	}{items}, neverCached...)
}

func (c *httpCall) projectionState(p *projectionState) httpAnswer {
	position := fmt.Sprintf(`{"$c":%d,"$p":%d}`, p.position.Commit, p.position.Prepare)
	return httpAnswer{status: http.StatusOK, media: mediaJSON, header: append([]string{"Es-Position", position}, neverCached...)}
}

func (c *httpCall) projectionConfig(*projectionState) httpAnswer {
	return c.json(http.StatusOK, struct {
		Type           int  `json:"msgTypeId"`
		Emit           bool `json:"emitEnabled"`
		Handled        int  `json:"checkpointHandledThreshold"`
		UnhandledBytes int  `json:"checkpointUnhandledBytesThreshold"`
		Pending        int  `json:"pendingEventsThreshold"`
		Batch          int  `json:"maxWriteBatchLength"`
	}{typeProjectionConfig, true, 4000, 10_000_000, 5000, 500}, neverCached...)
}

// enableProjection switches a projection on or off. Only administrators may.
func (c *httpCall) enableProjection(enable bool) httpAnswer {
	return ofProjection(func(c *httpCall, p *projectionState) httpAnswer {
		if !c.user.admin() {
			return notAuthorized
		}
		id := slices.IndexFunc(projections[:], func(known projection) bool { return known.name == p.name })
		c.projector.switchTo(projectionID(id), enable)
		return c.json(http.StatusOK, struct {
			Type int    `json:"msgTypeId"`
			Name string `json:"name"`
		}{typeProjectionUpdated, p.name})
	})(c)
}

var notAuthorized = httpAnswer{status: http.StatusUnauthorized, reason: "Not Authorized", media: mediaPlain, body: []byte("Not authorized")}

// deleteProjection refuses: there are only those of the system.
func (c *httpCall) deleteProjection(*projectionState) httpAnswer {
	if !c.user.admin() {
		return notAuthorized
	}
	return keptProjection
}
