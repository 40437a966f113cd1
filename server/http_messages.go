package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/groups"
)

// mediaMessages is the media type of the messages of a group. There is no form in XML, which a real server prefers.
const mediaMessages = "application/vnd.eventstore.competingatom+json"

const (
	maxTaken = 100
	// maxTakenBytes bounds what one answer holds, of which JSON makes more.
	maxTakenBytes = 16 << 20
)

// messageRoutes are those of whoever takes messages of a group by HTTP: by asking for some, and acking each by its id or many
// at once. The paths stand before those that spell out what is the count here.
func (a *httpAPI) messageRoutes(group string) []route {
	of := func(method, path, media string, serve func(*httpCall) httpAnswer) route {
		return route{method: method, path: group + path, gives: []string{media}, serve: serve}
	}
	processed := func(path string, nak bool) []route {
		return []route{
			of(http.MethodPost, path, mediaJSON, func(c *httpCall) httpAnswer {
				return c.processed(strings.Split(c.URL.Query().Get("ids"), ","), nak)
			}),
			of(http.MethodPost, path+"/{id}", mediaJSON, func(c *httpCall) httpAnswer { return c.processed(c.vars[2:], nak) }),
		}
	}
	return slices.Concat(
		[]route{
			of(http.MethodGet, "", mediaMessages, func(c *httpCall) httpAnswer { return c.takeMessages("1") }),
			of(http.MethodGet, "/{count}", mediaMessages, func(c *httpCall) httpAnswer { return c.takeMessages(c.vars[2]) }),
		},
		processed("/ack", false),
		processed("/nack", true),
	)
}

// takeMessages sends messages of a group. They are with the caller until they are acked, or their time is up.
func (c *httpCall) takeMessages(count string) httpAnswer {
	n, err := strconv.ParseInt(count, 10, 32)
	if err != nil {
		n = 0
	}
	if n < 1 || n > maxTaken {
		return badRequest("Message count must be an integer between 1 and %d 'count' ='%d'", maxTaken, n)
	}
	stream, group := c.vars[0], c.vars[1]
	if !c.allowed(c.user, stream, rightRead) {
		return httpAnswer{status: http.StatusUnauthorized, media: c.media}
	}
	taken, ok := c.groups.take(stream, group, int(n), maxTakenBytes)
	if !ok {
		return httpAnswer{status: http.StatusNotFound, media: c.media}
	}
	f, err := c.messagesFeed(stream, group, int(n), taken)
	if err != nil {
		return failed(textReadFailed)
	}
	return httpAnswer{status: http.StatusOK, media: c.media, body: encodeIndented(f)}
}

// messagesFeed makes the feed of messages, the newest first, each with the addresses where it is acked.
func (c *httpCall) messagesFeed(stream, group string, count int, taken []groups.Event) (*feed, error) {
	events := make([]messages.ResolvedEvent, len(taken))
	ids := make([]string, len(taken))
	for i := range taken {
		var event, link []byte
		about, followed := taken[i].Resolved()
		if about != nil {
			event = about.Encoded
		}
		if followed != nil {
			link = followed.Encoded
		}
		var err error
		if events[i], err = decodeResolved(event, link); err != nil {
			return nil, err
		}
		ids[i] = taken[i].Record.ID.String()
	}
	self := c.link("/subscriptions/" + escaped(stream) + "/" + escaped(group))
	f := &feed{
		Title: "Messages for '" + stream + "/" + group + "'", ID: self, Author: theAuthor,
		Updated: updated(events, len(events)-1), Entries: c.entries(events, true),
	}
	if len(ids) > 0 {
		all := "?ids=" + strings.Join(ids, ",")
		f.Links = append(f.Links, feedLink{self + "/ack" + all, "ackAll"}, feedLink{self + "/nack" + all, "nackAll"})
	}
	f.Links = append(f.Links, feedLink{self + "/" + strconv.Itoa(count), "previous"}, feedLink{self, "self"})
	slices.Reverse(ids) // as the entries are
	for i, id := range ids {
		e := &f.Entries[i]
		e.Links = append(e.Links, feedLink{self + "/ack/" + id, "ack"}, feedLink{self + "/nack/" + id, "nack"})
	}
	return f, nil
}

// nakActions are the values of ?action=. What is none of them is Unknown.
var nakActions = map[string]groups.Action{"park": groups.Park, "retry": groups.Retry, "skip": groups.Skip, "stop": groups.Stop}

// nakText is what an entry of the parked stream says of a message that was parked by HTTP.
const nakText = "Nacked from HTTP"

// processed ends messages, or does with them what ?action= says. As on a real server nobody looks at rights, and the answer is
// the same when there are no such messages, or no such group.
func (c *httpCall) processed(texts []string, nak bool) httpAnswer {
	ids := make([]uuid.UUID, len(texts))
	for i, text := range texts {
		var err error
		if ids[i], err = uuid.Parse(text); err != nil {
			return badRequest("messageid should be a properly formed guid")
		}
	}
	key := []byte(groupKey(c.vars[0], c.vars[1]))
	nobody := messages.ID(uuid.New()) // no consumer has it: his slot stays taken
	if nak {
		c.groups.nak(key, nobody, ids, nakActions[strings.ToLower(c.URL.Query().Get("action"))], nakText)
	} else {
		c.groups.ack(key, nobody, ids)
	}
	return httpAnswer{status: http.StatusAccepted}
}
