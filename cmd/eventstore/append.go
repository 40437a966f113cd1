package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/google/uuid"

	"github.com/goeventstore/eventstore"
)

// appendEvents is the command that writes events.
type appendEvents struct {
	connection `embed:""`

	Stream   string `arg:"" help:"Stream to write to."`
	Type     string `default:"event" placeholder:"T" help:"Type of the events (${default})."`
	Expected string `default:"any" placeholder:"VERSION" help:"What the stream has to be for the first event: any, none, exists, or the number of its last event (${default})."`

	expected eventstore.ExpectedVersion
}

// maxLine bounds what a line without an end takes. No event is larger than a frame.
const maxLine = 64 << 20

var errInterrupted = errors.New("interrupted")

// Validate is called by kong.
func (a *appendEvents) Validate() error {
	switch a.Expected {
	case "any":
		a.expected = eventstore.Any
	case "none":
		a.expected = eventstore.NoStream
	case "exists":
		a.expected = eventstore.StreamExists
	default:
		n, err := strconv.ParseInt(a.Expected, 10, 64)
		if err != nil || n < 0 {
			return fmt.Errorf("--expected: want any, none, exists or a number, have %q", a.Expected)
		}
		a.expected = eventstore.ExpectedVersion(n)
	}
	return a.check()
}

// Run writes the lines of the standard input, one by one, and prints the number of each when it is written.
func (a *appendEvents) Run(ctx context.Context, std streams) error {
	return a.with(ctx, func(c *eventstore.Client) error {
		out := json.NewEncoder(std.out)
		lines, failed := readLines(ctx, std.in)
		for n := 1; ; n++ {
			var line []byte
			select {
			case <-ctx.Done():
				return errInterrupted
			case line = <-lines:
			}
			if line == nil {
				return <-failed
			}
			line = bytes.TrimSpace(line)
			if len(line) == 0 {
				continue
			}
			if !json.Valid(line) {
				return fmt.Errorf("line %d is no JSON; those before it are written", n)
			}
			written, err := c.Append(ctx, a.Stream, a.expected, []eventstore.EventData{
				{ID: uuid.New(), Type: a.Type, JSON: true, Data: line},
			})
			if err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			if a.expected != eventstore.Any {
				a.expected = written.Last
			}
			if err := out.Encode(linkLine{a.Stream, int64(written.Last)}); err != nil {
				return err
			}
		}
	})
}

// readLines gives the lines of r, then nil, and then why there are no more: nil at the end. An interrupt does not end a read
// from a terminal, so that one is left behind; it ends with the process.
func readLines(ctx context.Context, r io.Reader) (lines <-chan []byte, failed <-chan error) {
	given, why := make(chan []byte), make(chan error, 1)
	go func() {
		defer close(given)
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, maxLine)
		for scanner.Scan() {
			line := append([]byte{}, scanner.Bytes()...)
			select {
			case given <- line:
			case <-ctx.Done():
				why <- errInterrupted
				return
			}
		}
		err := scanner.Err()
		if err != nil {
			err = fmt.Errorf("standard input: %w", err)
		}
		why <- err
	}()
	return given, why
}
