package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/goeventstore/eventstore"
)

// connection is what the commands of a client have in common.
type connection struct {
	Connect string `default:"tcp://admin:changeit@127.0.0.1:1113" placeholder:"TARGET" help:"Where the server is (${default})."`
}

func (c *connection) check() error {
	if _, err := eventstore.ParseTarget(c.Connect); err != nil {
		return fmt.Errorf("--connect: %w", err)
	}
	return nil
}

// with calls f with a client.
func (c *connection) with(ctx context.Context, f func(*eventstore.Client) error) error {
	client, err := eventstore.Connect(ctx, c.Connect)
	if err != nil {
		return err
	}
	return errors.Join(f(client), client.Close())
}

// printer writes events as lines of JSON, a moment late.
type printer struct {
	to      *bufio.Writer
	encoder *json.Encoder
}

func newPrinter(w io.Writer) *printer {
	p := &printer{to: bufio.NewWriter(w)}
	p.encoder = json.NewEncoder(p.to)
	p.encoder.SetEscapeHTML(false)
	return p
}

// eventLine is an event as it is printed. What is no JSON is in the fields for base64.
type eventLine struct {
	Stream         string          `json:"stream"`
	Number         int64           `json:"number"`
	Position       string          `json:"position,omitempty"` // in a read of all streams
	Link           *linkLine       `json:"link,omitempty"`     // what led to the event
	ID             string          `json:"id"`
	Type           string          `json:"type"`
	Created        time.Time       `json:"created"`
	Data           json.RawMessage `json:"data,omitempty"`
	DataBase64     []byte          `json:"dataBase64,omitempty"`
	Metadata       json.RawMessage `json:"metadata,omitempty"`
	MetadataBase64 []byte          `json:"metadataBase64,omitempty"`
}

type linkLine struct {
	Stream string `json:"stream"`
	Number int64  `json:"number"`
}

// shown is the event that is printed.
func shown(e *eventstore.ResolvedEvent) *eventstore.Event {
	if e.Event == nil { // the link leads nowhere
		return e.Link
	}
	return e.Event
}

func (p *printer) print(e *eventstore.ResolvedEvent) error {
	event := shown(e)
	line := eventLine{
		Stream: event.Stream, Number: event.Number, ID: event.ID.String(), Type: event.Type, Created: event.Created.UTC(),
	}
	if e.All {
		line.Position = e.Position.String()
	}
	if e.Link != nil && e.Event != nil {
		line.Link = &linkLine{e.Link.Stream, e.Link.Number}
	}
	line.Data, line.DataBase64 = jsonOrBytes(event.Data, event.JSON)
	line.Metadata, line.MetadataBase64 = jsonOrBytes(event.Metadata, true)
	return p.encoder.Encode(line)
}

func jsonOrBytes(b []byte, mayBeJSON bool) (json.RawMessage, []byte) {
	if mayBeJSON && json.Valid(b) {
		return b, nil
	}
	return nil, b
}
