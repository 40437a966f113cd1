package server

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// The traces of scavenges (4.15).
const (
	scavengesStream         = "$scavenges"
	typeScavengeStarted     = "$scavengeStarted"
	typeScavengeCompleted   = "$scavengeCompleted"
	scavengesMetadata       = `{"$maxAge":2592000}`
	textScavengeInProgress  = "Scavenge already in progress."
	scavengeResultSucceeded = "Success"
	scavengeResultFailed    = "Failed"
)

// scavenge is one run. A goroutine of its own finds what can go, beside the writer, which then removes it step by step.
type scavenge struct {
	request *request
	id      uuid.UUID
	stream  string
	began   time.Time // of the run
	v       view      // whose clock stands still
	stop    <-chan struct{}

	found store.Scavenged // by the goroutine, as the two below
	saved int64
	err   error
}

// scavengeDatabase takes a ScavengeDatabase request, whose body nobody looks at.
func (c *session) scavengeDatabase(f *messages.Frame, u *user) error {
	r := c.server.writer.request()
	r.session, r.id, r.command, r.user = c, f.ID, f.Command, u
	return c.submit(r, 0)
}

// scavenge has the writer begin a run that nobody waits for.
func (s *Server) scavenge(by *user) {
	r := s.writer.request()
	r.command, r.user, r.done = messages.ScavengeDatabase, by, func(*messages.AppendCompleted) {}
	s.writer.enqueue(r)
	signal(s.writer.wake)
}

// startScavenge begins a run, which answers the request at its end; newer servers do at once. That one is under way is found before the right.
func (w *writer) startScavenge(r *request) error {
	atOnce := w.server.dialect.generation >= generation50
	if w.scavenge != nil {
		r.scavenged = scavengeCompleted(pb.ScavengeDatabaseCompleted_InProgress, textScavengeInProgress)
		if atOnce {
			r.scavenged = scavengeBegun(pb.ScavengeDatabaseResponse_InProgress, w.scavenge.id)
		}
		return nil
	}
	s := &scavenge{request: r, id: w.newID(), began: time.Now(), stop: w.server.stop}
	s.stream = scavengesStream + "-" + s.id.String()
	if !r.user.operates() {
		text := textAccessDenied
		r.scavenged = scavengeCompleted(pb.ScavengeDatabaseCompleted_Failed, text)
		if atOnce {
			r.scavenged = &pb.ScavengeDatabaseResponse{Result: pb.ScavengeDatabaseResponse_Unauthorized.Enum()}
		}
		return w.traceCompleted(s, scavengeResultFailed, &text)
	}
	w.scavenge = s
	if atOnce {
		r.scavenged = scavengeBegun(pb.ScavengeDatabaseResponse_Started, s.id)
	}
	if _, _, err := w.write(metaPrefix+s.stream, typeMetadata, 1, []byte(scavengesMetadata)); err != nil {
		return err
	}
	_, _, err := w.write(s.stream, typeScavengeStarted, 1, trace(struct {
		ID       string `json:"scavengeId"`
		Endpoint string `json:"nodeEndpoint"`
	}{s.id.String(), w.server.endpoint()}))
	return err
}

// runScavenge looks for what can go as soon as the start of a run is committed.
func (w *writer) runScavenge() {
	s := w.scavenge
	now := w.moment
	s.v = w.server.view()
	s.v.now = func() time.Time { return now }
	w.server.writing.Go(func() {
		// What goes must have been seen by the projections.
		if s.err = w.server.WaitForProjections(context.Background()); s.err == nil {
			s.found, s.err = w.store.Scavenge(s.drop)
		}
		signal(w.scavenging)
	})
}

// drop decides on a record as a real server does when it scavenges a chunk, which here is the whole log.
func (s *scavenge) drop(r *store.Record) (bool, error) {
	select {
	case <-s.stop:
		return false, errServerClosed
	default:
	}
	gone, err := s.goes(r)
	if gone {
		s.saved += int64(len(r.Encoded))
	}
	return gone, err
}

// goes: a tombstone stays, and the last event of a stream, whatever its metadata say. So do the parts of transactions, since
// a place between the events of a commit is one of theirs.
func (s *scavenge) goes(r *store.Record) (bool, error) {
	switch {
	case r.Kind == store.Void || r.Kind == store.Blank:
		return true, nil
	case r.Kind == store.Pending || r.Number == store.DeletedNumber:
		return false, nil
	}
	info, err := s.v.info(r.Stream)
	switch {
	case err != nil:
		return false, err
	case info.deleted:
		return true, nil
	case r.Number >= info.last:
		return false, nil
	case r.Number < info.min:
		return true, nil
	}
	oldest, err := s.v.oldest(&info)
	return err == nil && r.Created < oldest, nil // nothing is as old as what cannot be told
}

// stepScavenge removes some of what a run found. Behind the last of it the run is completed.
func (w *writer) stepScavenge() {
	s := w.scavenge
	if s.found != nil {
		more, err := s.found.Apply()
		if err == nil && more {
			signal(w.scavenging)
			return
		}
		s.err = err
	}
	w.scavenge = nil
	w.begin()
	result, text := pb.ScavengeDatabaseCompleted_Success, (*string)(nil)
	name := scavengeResultSucceeded
	if s.err != nil {
		failure := fmt.Sprintf("Error while scavenging DB: %s.", s.err)
		result, text, name = pb.ScavengeDatabaseCompleted_Failed, &failure, scavengeResultFailed
	}
	err := w.traceCompleted(s, name, text)
	if err == nil {
		err = w.store.Commit()
	}
	if err != nil { // what is gone is gone, whether it stands in the log or not
		w.takeBack(err)
	} else {
		w.committed()
	}
	if s.request == nil { // answered long ago
		return
	}
	m := &pb.ScavengeDatabaseCompleted{Result: &result, Error: text, TotalSpaceSaved: &s.saved}
	took := int32(min(time.Since(s.began).Milliseconds(), 1<<31-1))
	m.TotalTimeMs = &took
	s.request.scavenged = m
	w.answer(s.request)
	w.sendAnswers()
}

// traceCompleted writes the last event of a run's stream, and the links to all that there are: a real server writes the
// first link when the first event is committed, which is behind the last one of a short run.
func (w *writer) traceCompleted(s *scavenge, result string, text *string) error {
	last, ok, err := w.write(s.stream, typeScavengeCompleted, 1, trace(struct {
		ID       string  `json:"scavengeId"`
		Endpoint string  `json:"nodeEndpoint"`
		Result   string  `json:"result"`
		Error    *string `json:"error"`
		Took     string  `json:"timeTaken"`
		Saved    int64   `json:"spaceSaved"`
	}{s.id.String(), w.server.endpoint(), result, text, timeSpan(time.Since(s.began)), s.saved}))
	for n := int64(0); ok && err == nil && n <= last; n++ {
		_, _, err = w.write(scavengesStream, typeLink, 0, fmt.Appendf(nil, "%d@%s", n, s.stream))
	}
	return err
}

// write stages an event of the server's own and returns its number, unless somebody has deleted the stream for good.
func (w *writer) write(stream, eventType string, contentType int32, data []byte) (number int64, ok bool, err error) {
	r := request{command: messages.WriteEvents, write: messages.Append{Stream: stream, Expected: expectAny, Events: []messages.NewEvent{
		{ID: w.newID(), Type: eventType, ContentType: contentType, Data: data},
	}}}
	err = w.append(&r)
	return r.answer.First, r.answer.Result == messages.Success, err
}

// endpoint is what the traces call the node.
func (s *Server) endpoint() string { return strings.TrimPrefix(s.url, "tcp://") }

// trace is an object of strings and numbers as a real server writes it.
func trace(v any) []byte {
	b, _ := json.MarshalIndent(v, "", "  ")
	return b
}

// timeSpan is a duration as .NET writes it.
func timeSpan(d time.Duration) string {
	const day = 24 * time.Hour
	days := ""
	if d >= day {
		days = fmt.Sprintf("%d.", d/day)
	}
	text := fmt.Sprintf("%s%02d:%02d:%02d", days, d%day/time.Hour, d%time.Hour/time.Minute, d%time.Minute/time.Second)
	if ticks := d % time.Second / 100; ticks > 0 {
		text += fmt.Sprintf(".%07d", ticks)
	}
	return text
}

// scavengeBegun is the answer in dialects that do not wait for the end.
func scavengeBegun(result pb.ScavengeDatabaseResponse_ScavengeResult, id uuid.UUID) *pb.ScavengeDatabaseResponse {
	return &pb.ScavengeDatabaseResponse{Result: &result, ScavengeId: proto.String(id.String())}
}

// scavengeCompleted is the answer to a request that begins no run.
func scavengeCompleted(result pb.ScavengeDatabaseCompleted_ScavengeResult, text string) *pb.ScavengeDatabaseCompleted {
	return &pb.ScavengeDatabaseCompleted{Result: &result, Error: &text, TotalTimeMs: new(int32), TotalSpaceSaved: new(int64)}
}
