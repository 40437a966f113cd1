package server

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/google/uuid"
)

// httpGroups is what the HTTP side asks of whoever keeps the persistent subscriptions (4.14). Rights are his to check.
type httpGroups interface {
	CreateGroup(by *user, stream, group string, s *httpGroupSettings) httpGroupOutcome
	UpdateGroup(by *user, stream, group string, s *httpGroupSettings) httpGroupOutcome
	DeleteGroup(by *user, stream, group string) httpGroupOutcome
	// ReplayParked replays all that is parked, or with stopAt >= 0 what is before that number of the parked stream.
	ReplayParked(by *user, stream, group string, stopAt int64) httpGroupOutcome
	// GroupStatistics are all groups as they are now, in the order of their making.
	GroupStatistics() []httpGroupStatistics
}

// httpGroupOutcome is how a request about a group ended.
type httpGroupOutcome struct {
	result httpGroupResult
	reason string // what a real server says of it, "" for a success
}

type httpGroupResult string

const (
	httpGroupSuccess      httpGroupResult = "Success"
	httpGroupExists       httpGroupResult = "AlreadyExists"
	httpGroupDoesNotExist httpGroupResult = "DoesNotExist"
	httpGroupAccessDenied httpGroupResult = "AccessDenied"
	httpGroupFail         httpGroupResult = "Fail"
)

func (r httpGroupResult) status(success int) int {
	switch r {
	case httpGroupSuccess:
		return success
	case httpGroupExists:
		return http.StatusConflict
	case httpGroupDoesNotExist:
		return http.StatusNotFound
	case httpGroupAccessDenied:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}

// httpGroupSettings are a group's settings by their names in HTTP (6.6).
type httpGroupSettings struct {
	ResolveLinks     bool   `json:"resolveLinktos"`
	StartFrom        int64  `json:"startFrom"`
	MessageTimeout   int32  `json:"messageTimeoutMilliseconds"`
	ExtraStatistics  bool   `json:"extraStatistics"`
	MaxRetries       int32  `json:"maxRetryCount"`
	LiveBuffer       int32  `json:"liveBufferSize"`
	Buffer           int32  `json:"bufferSize"`
	ReadBatch        int32  `json:"readBatchSize"`
	PreferRoundRobin bool   `json:"preferRoundRobin"`
	CheckpointAfter  int32  `json:"checkPointAfterMilliseconds"`
	MinCheckpoint    int32  `json:"minCheckPointCount"`
	MaxCheckpoint    int32  `json:"maxCheckPointCount"`
	MaxSubscribers   int32  `json:"maxSubscriberCount"`
	Strategy         string `json:"namedConsumerStrategy"`
}

// httpGroupDefaults are those of HTTP, which are not those of clients.
var httpGroupDefaults = httpGroupSettings{
	MessageTimeout: 10_000, MaxRetries: 10, LiveBuffer: 500, Buffer: 500, ReadBatch: 20, CheckpointAfter: 1000,
	MinCheckpoint: 10, MaxCheckpoint: 500, MaxSubscribers: 10, Strategy: "RoundRobin",
}

// httpGroupStatistics is a group as it is at the moment.
type httpGroupStatistics struct {
	stream, group string
	settings      httpGroupSettings
	status        string
	perSecond     float64
	processed     int64
	sinceMeasured int64
	lastProcessed int64 // the checkpoint; -1: none
	lastKnown     int64
	readBuffer    int
	liveBuffer    int64
	retryBuffer   int
	inFlight      int
	connections   []httpGroupConnection
}

// httpGroupConnection is one consumer of a group.
type httpGroupConnection struct {
	From          string                 `json:"from"`
	User          string                 `json:"username"`
	PerSecond     float64                `json:"averageItemsPerSecond"`
	Processed     int64                  `json:"totalItemsProcessed"`
	SinceMeasured int64                  `json:"countSinceLastMeasurement"`
	Extra         []httpGroupMeasurement `json:"extraStatistics"`
	Slots         int                    `json:"availableSlots"`
	InFlight      int                    `json:"inFlightMessages"`
}

// httpGroupMeasurement is one of the statistics that a group keeps when extra ones are wanted.
type httpGroupMeasurement struct {
	Key   string `json:"key"`
	Value int    `json:"value"`
}

// The message types that a real server shows in its answers (6.6).
const (
	httpTypeGroupCreated  = 144
	httpTypeGroupUpdated  = 146
	httpTypeGroupDeleted  = 150
	httpTypeGroupReplayed = 157
)

func (a *httpAPI) groupRoutes() []route {
	group := "/subscriptions/{stream}/{group}"
	of := func(method, path string, serve func(*httpCall) httpAnswer, takes []string) route {
		return route{method: method, path: path, takes: takes, gives: jsonOnly, serve: serve}
	}
	return []route{
		of(http.MethodGet, "/subscriptions", (*httpCall).listGroups, nil),
		of(http.MethodGet, "/subscriptions/{stream}", (*httpCall).listGroups, nil),
		of(http.MethodGet, group+"/info", (*httpCall).groupInfo, nil),
		of(http.MethodPut, group, (*httpCall).createGroup, jsonOnly),
		of(http.MethodPost, group, (*httpCall).updateGroup, jsonOnly),
		of(http.MethodDelete, group, (*httpCall).deleteGroup, nil),
		of(http.MethodPost, group+"/replayParked", (*httpCall).replayParked, nil),
	}
}

// groupChanged is the answer to what changes a group.
func (c *httpCall) groupChanged(o httpGroupOutcome, success, messageType int, header ...string) httpAnswer {
	return c.json(o.result.status(success), struct {
		ID     uuid.UUID       `json:"correlationId"`
		Reason string          `json:"reason"`
		Result httpGroupResult `json:"result"`
		Type   int             `json:"msgTypeId"`
	}{uuid.New(), o.reason, o.result, messageType}, header...)
}

// groupSettings reads settings. What is missing, zero or no JSON at all is the default.
func (c *httpCall) groupSettings() (*httpGroupSettings, *httpAnswer) {
	b, refusal := c.text(maxSmallBody)
	if refusal != nil {
		return nil, refusal
	}
	var given struct {
		httpGroupSettings
		NamedConsumerStrategy *string `json:"namedConsumerStrategy"`
	}
	if json.Unmarshal(b, &given) != nil {
		given.httpGroupSettings, given.NamedConsumerStrategy = httpGroupSettings{}, nil
	}
	s := given.httpGroupSettings
	for _, number := range []struct{ given, standard *int32 }{
		{&s.MessageTimeout, &httpGroupDefaults.MessageTimeout},
		{&s.MaxRetries, &httpGroupDefaults.MaxRetries},
		{&s.LiveBuffer, &httpGroupDefaults.LiveBuffer},
		{&s.Buffer, &httpGroupDefaults.Buffer},
		{&s.ReadBatch, &httpGroupDefaults.ReadBatch},
		{&s.CheckpointAfter, &httpGroupDefaults.CheckpointAfter},
		{&s.MinCheckpoint, &httpGroupDefaults.MinCheckpoint},
		{&s.MaxCheckpoint, &httpGroupDefaults.MaxCheckpoint},
		{&s.MaxSubscribers, &httpGroupDefaults.MaxSubscribers},
	} {
		if *number.given == 0 {
			*number.given = *number.standard
		}
	}
	switch name := given.NamedConsumerStrategy; {
	case name == nil || *name == "" && s.PreferRoundRobin:
		s.Strategy = httpGroupDefaults.Strategy
	case *name == "":
		s.Strategy = "DispatchToSingle"
	default:
		s.Strategy = *name
	}
	if reason := s.refused(); reason != "" {
		return nil, &httpAnswer{status: http.StatusBadRequest, reason: reason}
	}
	return &s, nil
}

// refused is what is wrong with settings, "" for nothing.
func (s *httpGroupSettings) refused() string {
	switch {
	case s.Buffer <= 0:
		return fmt.Sprintf("Buffer Size (%d) must be positive", s.Buffer)
	case s.LiveBuffer <= 0:
		return fmt.Sprintf("Live Buffer Size (%d) must be positive", s.LiveBuffer)
	case s.ReadBatch <= 0:
		return fmt.Sprintf("Read Batch Size (%d) must be positive", s.ReadBatch)
	case s.Buffer <= s.ReadBatch:
		return fmt.Sprintf("BufferSize (%d) must be larger than ReadBatchSize (%d)", s.Buffer, s.ReadBatch)
	}
	return ""
}

func (c *httpCall) createGroup() httpAnswer {
	s, refusal := c.groupSettings()
	if refusal != nil {
		return *refusal
	}
	outcome := c.groups.CreateGroup(c.user, c.vars[0], c.vars[1], s)
	return c.groupChanged(outcome, http.StatusCreated, httpTypeGroupCreated, c.groupLocation()...)
}

func (c *httpCall) updateGroup() httpAnswer {
	s, refusal := c.groupSettings()
	if refusal != nil {
		return *refusal
	}
	outcome := c.groups.UpdateGroup(c.user, c.vars[0], c.vars[1], s)
	return c.groupChanged(outcome, http.StatusOK, httpTypeGroupUpdated, c.groupLocation()...)
}

// groupLocation is the header that answers to creating and updating have, good or bad. Names stand in it as they are.
func (c *httpCall) groupLocation() []string {
	return []string{"Location", c.link("/subscriptions/" + c.vars[0] + "/" + c.vars[1])}
}

func (c *httpCall) deleteGroup() httpAnswer {
	return c.groupChanged(c.groups.DeleteGroup(c.user, c.vars[0], c.vars[1]), http.StatusOK, httpTypeGroupDeleted)
}

// replayParked takes ?stopAt=n, which servers from version 20 on have.
func (c *httpCall) replayParked() httpAnswer {
	stopAt := int64(-1)
	if given := c.URL.Query().Get("stopAt"); given != "" {
		var ok bool
		if stopAt, ok = wholeNumber(given); !ok || stopAt < 0 {
			return httpAnswer{status: http.StatusBadRequest, reason: "stopAt should be a properly formed number"}
		}
	}
	return c.groupChanged(c.groups.ReplayParked(c.user, c.vars[0], c.vars[1], stopAt), http.StatusOK, httpTypeGroupReplayed)
}

// httpGroupLinks are the addresses that belong to a group.
type httpGroupLinks struct {
	parked, messages, info, replay string
}

func (c *httpCall) groupLinks(g *httpGroupStatistics) httpGroupLinks {
	stream, group := escaped(g.stream), escaped(g.group)
	path := c.link("/subscriptions/" + stream + "/" + group)
	return httpGroupLinks{
		parked:   c.link("/streams/%24persistentsubscription-" + stream + "::" + group + "-parked"),
		messages: path + "/1", info: path + "/info", replay: path + "/replayParked",
	}
}

// listGroups tells of all groups, or those of a stream.
func (c *httpCall) listGroups() httpAnswer {
	type summary struct {
		Links         []hrefRel `json:"links"`
		Stream        string    `json:"eventStreamId"`
		Group         string    `json:"groupName"`
		Parked        string    `json:"parkedMessageUri"`
		Messages      string    `json:"getMessagesUri"`
		Status        string    `json:"status"`
		PerSecond     float64   `json:"averageItemsPerSecond"`
		Processed     int64     `json:"totalItemsProcessed"`
		LastProcessed int64     `json:"lastProcessedEventNumber"`
		LastKnown     int64     `json:"lastKnownEventNumber"`
		Connections   int       `json:"connectionCount"`
		InFlight      int       `json:"totalInFlightMessages"`
	}
	all := []summary{}
	known := c.groups.GroupStatistics()
	for i := range known {
		g := &known[i]
		if len(c.vars) > 0 && g.stream != c.vars[0] {
			continue
		}
		links := c.groupLinks(g)
		all = append(all, summary{
			[]hrefRel{{links.info, "detail"}},
			g.stream, g.group, links.parked, links.messages, g.status, g.perSecond,
			g.processed, g.lastProcessed, g.lastKnown, len(g.connections), g.inFlight,
		})
	}
	if len(c.vars) > 0 && len(all) == 0 {
		return c.json(http.StatusNotFound, all)
	}
	return c.json(http.StatusOK, all)
}

func (c *httpCall) groupInfo() httpAnswer {
	known := c.groups.GroupStatistics()
	for i := range known {
		if known[i].stream == c.vars[0] && known[i].group == c.vars[1] {
			return c.groupDetails(&known[i])
		}
	}
	return httpAnswer{status: http.StatusNotFound, media: mediaJSON}
}

func (c *httpCall) groupDetails(g *httpGroupStatistics) httpAnswer {
	links := c.groupLinks(g)
	settings := g.settings
	settings.PreferRoundRobin = settings.Strategy == httpGroupDefaults.Strategy
	connections := []httpGroupConnection{}
	for _, one := range g.connections {
		if one.Extra == nil {
			one.Extra = []httpGroupMeasurement{}
		}
		connections = append(connections, one)
	}
	return c.json(http.StatusOK, struct {
		Links         []hrefRel             `json:"links"`
		Config        httpGroupSettings     `json:"config"`
		Stream        string                `json:"eventStreamId"`
		Group         string                `json:"groupName"`
		Status        string                `json:"status"`
		PerSecond     float64               `json:"averageItemsPerSecond"`
		Parked        string                `json:"parkedMessageUri"`
		Messages      string                `json:"getMessagesUri"`
		Processed     int64                 `json:"totalItemsProcessed"`
		SinceMeasured int64                 `json:"countSinceLastMeasurement"`
		LastProcessed int64                 `json:"lastProcessedEventNumber"`
		LastKnown     int64                 `json:"lastKnownEventNumber"`
		ReadBuffer    int                   `json:"readBufferCount"`
		LiveBuffer    int64                 `json:"liveBufferCount"`
		RetryBuffer   int                   `json:"retryBufferCount"`
		InFlight      int                   `json:"totalInFlightMessages"`
		Connections   []httpGroupConnection `json:"connections"`
	}{
		[]hrefRel{{links.info, "detail"}, {links.replay, "replayParked"}},
		settings, g.stream, g.group, g.status, g.perSecond,
		links.parked, links.messages, g.processed, g.sinceMeasured, g.lastProcessed, g.lastKnown, g.readBuffer,
		g.liveBuffer, g.retryBuffer, g.inFlight, connections,
	})
}
