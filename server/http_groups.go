package server

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/server/internal/groups"
)

// status is the result in HTTP.
func (r groupResult) status(success int) int {
	switch r {
	case groupSuccess:
		return success
	case groupAlreadyExists:
		return http.StatusConflict
	case groupDoesNotExist:
		return http.StatusNotFound
	case groupAccessDenied:
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
	MinCheckpoint: 10, MaxCheckpoint: 500, MaxSubscribers: 10, Strategy: groups.RoundRobin,
}

// of are the settings of a group.
func (s *httpGroupSettings) of(stream, group string) *groups.Settings {
	return &groups.Settings{
		Stream: stream, Group: group, ResolveLinks: s.ResolveLinks, Statistics: s.ExtraStatistics, MessageTimeout: s.MessageTimeout,
		StartFrom: s.StartFrom, LiveBuffer: s.LiveBuffer, Buffer: s.Buffer, MaxRetries: s.MaxRetries, ReadBatch: s.ReadBatch,
		CheckpointAfter: s.CheckpointAfter, CheckpointMin: s.MinCheckpoint, CheckpointMax: s.MaxCheckpoint,
		MaxConsumers: s.MaxSubscribers, Strategy: s.Strategy,
	}
}

func httpSettingsOf(s *groups.Settings) httpGroupSettings {
	return httpGroupSettings{
		ResolveLinks: s.ResolveLinks, StartFrom: s.StartFrom, MessageTimeout: s.MessageTimeout, ExtraStatistics: s.Statistics,
		MaxRetries: s.MaxRetries, LiveBuffer: s.LiveBuffer, Buffer: s.Buffer, ReadBatch: s.ReadBatch,
		PreferRoundRobin: s.Strategy == groups.RoundRobin, CheckpointAfter: s.CheckpointAfter, MinCheckpoint: s.CheckpointMin,
		MaxCheckpoint: s.CheckpointMax, MaxSubscribers: s.MaxConsumers, Strategy: s.Strategy,
	}
}

// httpGroupConnection is one consumer of a group.
type httpGroupConnection struct {
	From          string                 `json:"from"`
	User          string                 `json:"username"`
	PerSecond     int                    `json:"averageItemsPerSecond"`
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
	return slices.Concat(a.messageRoutes(group), []route{
		of(http.MethodGet, "/subscriptions", (*httpCall).listGroups, nil),
		of(http.MethodGet, "/subscriptions/{stream}", (*httpCall).listGroups, nil),
		of(http.MethodGet, group+"/info", (*httpCall).groupInfo, nil),
		of(http.MethodPut, group, (*httpCall).createGroup, jsonOnly),
		of(http.MethodPost, group, (*httpCall).updateGroup, jsonOnly),
		of(http.MethodDelete, group, (*httpCall).deleteGroup, nil),
		of(http.MethodPost, group+"/replayParked", (*httpCall).replayParked, nil),
	})
}

// changeGroup has a group changed, waits for it, and answers.
func (c *httpCall) changeGroup(success, messageType int, change func(done groupDone), header ...string) httpAnswer {
	type outcome struct {
		result groupResult
		reason string
	}
	known := make(chan outcome, 1) // the writer does not wait for us
	change(func(result groupResult, reason string) { known <- outcome{result, reason} })
	var o outcome
	select {
	case o = <-known:
	case <-c.writer.ended:
		return httpAnswer{status: http.StatusServiceUnavailable}
	}
	return c.json(o.result.status(success), struct {
		ID     uuid.UUID   `json:"correlationId"`
		Reason string      `json:"reason"`
		Result groupResult `json:"result"`
		Type   int         `json:"msgTypeId"`
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
		s.Strategy = groups.DispatchToSingle
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
	return c.changeGroup(http.StatusCreated, httpTypeGroupCreated, func(done groupDone) {
		c.groups.create(c.user, s.of(c.vars[0], c.vars[1]), done)
	}, c.groupLocation()...)
}

func (c *httpCall) updateGroup() httpAnswer {
	s, refusal := c.groupSettings()
	if refusal != nil {
		return *refusal
	}
	return c.changeGroup(http.StatusOK, httpTypeGroupUpdated, func(done groupDone) {
		c.groups.update(c.user, s.of(c.vars[0], c.vars[1]), done)
	}, c.groupLocation()...)
}

// groupLocation is the header that answers to creating and updating have, good or bad. Names stand in it as they are.
func (c *httpCall) groupLocation() []string {
	return []string{"Location", c.link("/subscriptions/" + c.vars[0] + "/" + c.vars[1])}
}

func (c *httpCall) deleteGroup() httpAnswer {
	return c.changeGroup(http.StatusOK, httpTypeGroupDeleted, func(done groupDone) {
		c.groups.delete(c.user, c.vars[0], c.vars[1], done)
	})
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
	return c.changeGroup(http.StatusOK, httpTypeGroupReplayed, func(done groupDone) {
		done(c.groups.replay(c.user, c.vars[0], c.vars[1], stopAt))
	})
}

// httpGroupLinks are the addresses that belong to a group.
type httpGroupLinks struct {
	parked, messages, info, replay string
}

func (c *httpCall) groupLinks(s *groups.Settings) httpGroupLinks {
	stream, group := escaped(s.Stream), escaped(s.Group)
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
		PerSecond     int       `json:"averageItemsPerSecond"`
		Processed     int64     `json:"totalItemsProcessed"`
		LastProcessed int64     `json:"lastProcessedEventNumber"`
		LastKnown     int64     `json:"lastKnownEventNumber"`
		Connections   int       `json:"connectionCount"`
		InFlight      int       `json:"totalInFlightMessages"`
	}
	all := []summary{}
	stream := ""
	if len(c.vars) > 0 {
		stream = c.vars[0]
	}
	known := c.groups.allStats(stream)
	for i := range known {
		g := &known[i]
		links := c.groupLinks(&g.Settings)
		all = append(all, summary{
			[]hrefRel{{links.info, "detail"}},
			g.Settings.Stream, g.Settings.Group, links.parked, links.messages, g.Status, g.PerSecond,
			g.Total, g.Checkpoint, g.LastKnown, len(g.Consumers), g.InFlight,
		})
	}
	if len(c.vars) > 0 && len(all) == 0 {
		return c.json(http.StatusNotFound, all)
	}
	return c.json(http.StatusOK, all)
}

// nobodysName is what a consumer without a login is called.
const nobodysName = "anonymous"

func (c *httpCall) groupInfo() httpAnswer {
	g, ok := c.groups.stats(c.vars[0], c.vars[1])
	if !ok {
		return httpAnswer{status: http.StatusNotFound, media: mediaJSON}
	}
	links := c.groupLinks(&g.Settings)
	connections := []httpGroupConnection{}
	for i := range g.Consumers {
		one := &g.Consumers[i]
		connection := httpGroupConnection{
			From: one.From, User: cmp.Or(one.User, nobodysName), PerSecond: one.PerSecond, Processed: one.Total,
			SinceMeasured: one.SinceLast, Extra: []httpGroupMeasurement{}, Slots: one.Free, InFlight: one.InFlight,
		}
		for _, m := range one.Measured {
			connection.Extra = append(connection.Extra, httpGroupMeasurement(m))
		}
		connections = append(connections, connection)
	}
	return c.json(http.StatusOK, struct {
		Links         []hrefRel             `json:"links"`
		Config        httpGroupSettings     `json:"config"`
		Stream        string                `json:"eventStreamId"`
		Group         string                `json:"groupName"`
		Status        string                `json:"status"`
		PerSecond     int                   `json:"averageItemsPerSecond"`
		Parked        string                `json:"parkedMessageUri"`
		Messages      string                `json:"getMessagesUri"`
		Processed     int64                 `json:"totalItemsProcessed"`
		SinceMeasured int64                 `json:"countSinceLastMeasurement"`
		LastProcessed int64                 `json:"lastProcessedEventNumber"`
		LastKnown     int64                 `json:"lastKnownEventNumber"`
		ReadBuffer    int                   `json:"readBufferCount"`
		LiveBuffer    int                   `json:"liveBufferCount"`
		RetryBuffer   int                   `json:"retryBufferCount"`
		InFlight      int                   `json:"totalInFlightMessages"`
		Connections   []httpGroupConnection `json:"connections"`
	}{
		[]hrefRel{{links.info, "detail"}, {links.replay, "replayParked"}},
		httpSettingsOf(&g.Settings), g.Settings.Stream, g.Settings.Group, g.Status, g.PerSecond,
		links.parked, links.messages, g.Total, g.SinceLast, g.Checkpoint, g.LastKnown, g.Buffered,
		g.Aside, g.Retrying, g.InFlight, connections,
	})
}
