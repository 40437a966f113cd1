package server

import (
	"errors"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore/messages"
)

// errWriterEnded says that the server was closed, or its store failed.
var errWriterEnded = errors.New("the server does not write any more")

// writeOwn has the writer append an event of the server's own, whatever the rights of the stream, and waits for it. Not
// for the writer's goroutine.
func (s *Server) writeOwn(stream string, expected int64, e messages.NewEvent) (messages.OperationResult, error) {
	r := s.writer.request()
	r.command = messages.WriteEvents
	r.write.Stream, r.write.Expected = stream, expected
	r.write.Events = append(r.write.Events, e)
	return s.writer.wait(r)
}

// deleteOwn has the writer delete a stream softly, likewise.
func (s *Server) deleteOwn(stream string, expected int64) (messages.OperationResult, error) {
	r := s.writer.request()
	r.command = messages.DeleteStream
	r.write.Stream, r.write.Expected = stream, expected
	return s.writer.wait(r)
}

// writeSoon is writeOwn for who does not wait: the writer calls done, which must not block.
func (s *Server) writeSoon(stream string, expected int64, e messages.NewEvent, done func(*messages.AppendCompleted)) {
	r := s.writer.request()
	r.command, r.done = messages.WriteEvents, done
	r.write.Stream, r.write.Expected = stream, expected
	r.write.Events = append(r.write.Events, e)
	s.writer.enqueue(r)
	signal(s.writer.wake)
}

// deleteSoon is deleteOwn, likewise.
func (s *Server) deleteSoon(stream string, expected int64, done func(*messages.AppendCompleted)) {
	r := s.writer.request()
	r.command, r.done = messages.DeleteStream, done
	r.write.Stream, r.write.Expected = stream, expected
	s.writer.enqueue(r)
	signal(s.writer.wake)
}

func (w *writer) wait(r *request) (messages.OperationResult, error) {
	a, err := w.ask(r)
	return a.Result, err
}

// ask has the writer do what a request without a session wants, and returns its answer.
func (w *writer) ask(r *request) (messages.AppendCompleted, error) {
	answer := make(chan messages.AppendCompleted, 1) // the writer does not wait for us
	r.own = answer
	w.enqueue(r)
	signal(w.wake)
	select {
	case a := <-answer:
		return a, nil
	case <-w.ended:
		return messages.AppendCompleted{}, errWriterEnded
	}
}

// identify gives the events of a request without a session their ids, if they have none.
func (w *writer) identify(r *request) {
	for i := range r.write.Events {
		if e := &r.write.Events[i]; e.ID == (uuid.UUID{}) {
			e.ID = w.newID()
		}
	}
}

// jsonEvent is an event of the server's own with JSON in it.
func jsonEvent(eventType string, data []byte) messages.NewEvent {
	return messages.NewEvent{Type: eventType, ContentType: 1, Data: data}
}
