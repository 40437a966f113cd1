package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/goeventstore/eventstore"
)

// Errors of this package, beside eventstore.ErrAccessDenied, ErrNotAuthenticated, ErrTimeout and ErrArgument.
var (
	// ErrNotFound says that there is no such user, group, projection or resource.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that there is one already, or that somebody else changed it at the same time.
	ErrConflict = errors.New("conflict")
	// ErrUnsupported says that the server does not do this.
	ErrUnsupported = errors.New("the server does not support this")
	// ErrTooLarge says that an answer is larger than any that makes sense.
	ErrTooLarge = errors.New("the answer is too large")
)

// StatusError is an answer that is no success. It is also ErrNotFound, ErrConflict and the like, by errors.Is.
type StatusError struct {
	Status int    // of HTTP
	Reason string // what the server said: the text of its answer, or the reason of its status line
	is     error
}

// Error implements error.
func (e *StatusError) Error() string {
	text := fmt.Sprintf("status %d", e.Status)
	if e.Reason != "" {
		text += " " + e.Reason
	}
	if e.is != nil {
		return e.is.Error() + ": " + text
	}
	return text
}

// Unwrap implements errors.Is for what the status means.
func (e *StatusError) Unwrap() error { return e.is }

// maxAnswer bounds the body of an answer.
const maxAnswer = 16 << 20

// Admin talks to the HTTP side of one server. It is safe for concurrent use.
type Admin struct {
	side   eventstore.HTTPSide
	scheme string
	client http.Client
}

// New returns an Admin for a target of a client, or http(s)://[user:password@]host[:port]. Nothing is sent yet. The errors of
// all methods are *eventstore.OpError.
func New(target string, opts ...eventstore.Option) (*Admin, error) {
	side, err := eventstore.ParseHTTPSide(target, opts...)
	if err != nil {
		return nil, &eventstore.OpError{Op: "admin", Err: err}
	}
	a := &Admin{side: side, scheme: "http://"}
	if side.TLS != nil {
		a.scheme = "https://"
	}
	a.client = http.Client{
		Transport: &http.Transport{
			DialContext:            a.dial,
			TLSClientConfig:        side.TLS,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// URL returns the address of the HTTP side, without credentials: of a cluster that of the node that is asked first.
func (a *Admin) URL() string { return a.scheme + a.side.Addrs[0] }

// dialError is that nobody was reached, so that another node can be asked.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func (a *Admin) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := a.side.Dial(ctx, network, addr)
	if err != nil {
		return nil, &dialError{err}
	}
	return c, nil
}

// request is one request.
type request struct {
	op     string // for errors
	stream string // likewise, "" for none
	method string
	path   string // escaped, with its query
	body   any    // sent as JSON; nil: none
	accept string // "": application/json
	into   any    // what the answer is decoded into; nil: nothing, *[]byte: as it is
	// tolerate says that an answer is fine although its status is none of success.
	tolerate func(status int) bool
}

// segments makes a path of texts, each escaped.
func segments(texts ...string) string {
	var b strings.Builder
	for _, t := range texts {
		b.WriteString("/" + url.PathEscape(t))
	}
	return b.String()
}

// do sends a request and decodes the answer.
func (a *Admin) do(ctx context.Context, r request) error {
	err := a.attempt(ctx, &r)
	if err == nil {
		return nil
	}
	return a.failed(r.op, r.stream, err)
}

func (a *Admin) failed(op, stream string, err error) error {
	return &eventstore.OpError{Op: op, Stream: stream, Addr: strings.Join(a.side.Addrs, ","), Attempts: 1, Err: err}
}

func (a *Admin) attempt(ctx context.Context, r *request) error {
	limited, cancel := context.WithTimeout(ctx, a.side.Timeout)
	defer cancel()
	user, password, err := a.side.Credentials(limited)
	if err != nil {
		return err
	}
	status, reason, body, err := a.exchange(limited, r, user, password)
	switch {
	case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w after %v", eventstore.ErrTimeout, a.side.Timeout)
	case err != nil:
		return err
	case status >= 200 && status < 300 || r.tolerate != nil && r.tolerate(status):
		return decode(body, r.into)
	}
	failure := &StatusError{Status: status, Reason: textOf(reason, body), is: meanings[status]}
	if status == http.StatusUnauthorized {
		failure.is = a.denied(limited, r, user, password)
	}
	return failure
}

// meanings are the errors that statuses stand for.
var meanings = map[int]error{
	http.StatusNotFound:       ErrNotFound,
	http.StatusGone:           eventstore.ErrStreamDeleted,
	http.StatusConflict:       ErrConflict,
	http.StatusForbidden:      eventstore.ErrAccessDenied,
	http.StatusNotImplemented: ErrUnsupported,
}

// denied tells what 401 means, which servers answer to wrong credentials and for want of rights alike: who may see himself has
// the right credentials.
func (a *Admin) denied(ctx context.Context, r *request, user, password string) error {
	if user == "" && password == "" {
		return eventstore.ErrAccessDenied
	}
	const self = "/users/%24current"
	if r.path != self {
		status, _, _, err := a.exchange(ctx, &request{method: http.MethodGet, path: self}, user, password)
		if err == nil && status == http.StatusOK {
			return eventstore.ErrAccessDenied
		}
	}
	return eventstore.ErrNotAuthenticated
}

// exchange asks the first node that is reached.
func (a *Admin) exchange(ctx context.Context, r *request, user, password string) (status int, reason string, body []byte, err error) {
	for _, addr := range a.side.Addrs {
		status, reason, body, err = a.ask(ctx, a.scheme+addr, r, user, password)
		if unreached := (*dialError)(nil); !errors.As(err, &unreached) {
			break
		}
	}
	return status, reason, body, err
}

// ask sends a request and reads the answer.
func (a *Admin) ask(ctx context.Context, base string, r *request, user, password string) (status int, reason string, body []byte, err error) {
	var sent io.Reader = http.NoBody
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return 0, "", nil, err
		}
		sent = bytes.NewReader(b)
	}
	q, err := http.NewRequestWithContext(ctx, r.method, base+r.path, sent)
	if err != nil {
		return 0, "", nil, err
	}
	q.Header.Set("Accept", "application/json")
	if r.accept != "" {
		q.Header.Set("Accept", r.accept)
	}
	if r.body != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if user != "" || password != "" {
		q.SetBasicAuth(user, password)
	}
	answer, err := a.client.Do(q)
	if err != nil {
		if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
			err = wrapped.Err // the rest is what OpError says
		}
		return 0, "", nil, err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read, or is of no use
	body, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(body) > maxAnswer {
		err = ErrTooLarge
	}
	_, reason, _ = strings.Cut(answer.Status, " ")
	if location := answer.Header.Get("Location"); answer.StatusCode/100 == 3 && location != "" {
		reason += ", to " + location
	}
	return answer.StatusCode, reason, body, err
}

// decode reads an answer. What is no JSON came from something that is no such server.
func decode(body []byte, into any) error {
	switch to := into.(type) {
	case nil:
		return nil
	case *[]byte:
		*to = body
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%w: %w", eventstore.ErrProtocol, err)
	}
	return nil
}

// maxText bounds what of an answer stands in an error.
const maxText = 300

// textOf is what the server says of a failure: in its answer if that is one of those that say it, else in the status line.
func textOf(reason string, body []byte) string {
	var said struct {
		Reason string `json:"reason"`
		Error  string `json:"error"`
	}
	switch err := json.Unmarshal(body, &said); {
	case err == nil && said.Reason != "":
		reason = said.Reason
	case err == nil && said.Error != "":
		reason = said.Error
	}
	return strings.ToValidUTF8(reason[:min(len(reason), maxText)], "")
}
