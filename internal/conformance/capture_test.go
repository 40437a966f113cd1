package conformance_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// A line is one line of a recording that means something to the player.
type line struct {
	n    int     // of the line
	ms   float64 // from the start of the recording
	kind lineKind
	conn string
	how  string // a connection ended

	// Of the recording of a cluster over time.
	event string
	nodes []string
	told  *toldNodes

	missing, surplus []int64 // events of a subscription, by their numbers

	tally *tally // how many requests were answered so, and stored or not

	// Of a frame.
	command messages.Command
	flags   byte
	id      messages.ID
	auth    []string  // login and password, or nil
	body    []byte    // of bytes: these
	whole   bool      // of bytes: they are one frame, whose command and id are above
	http    *httpPair // of a request by HTTP
	// made: a request that the recording does not show, so that its answer need not be there either.
	made bool
}

// toldNodes says which node of a cluster was what.
type toldNodes struct{ leader, slave1, slave2 string }

// tally is how many writes were answered so, and are stored or not.
type tally struct {
	result string
	stored bool
	count  int
}

type lineKind int

const (
	connected    lineKind = iota
	request               // a frame from the client
	reply                 // a frame from the server
	rawBytes              // from the client: no frame, an odd one, several
	serverClosed          // the connection
	clientClosed          // the connection
	stuck                 // the connection is open, and in the middle of a frame
	silence               // no answer came on the connection for a while
	sendFailed            // the server has closed the connection of a client that did not read
	remark                // nothing to play
	overHTTP              // a request and its answer
	beyond                // something that the player cannot do: a signal to a process
)

// remarks are the events that are only said.
var remarks = []string{"step", "tally", "note", "still open", "subscription check", "end of traffic"}

// encode returns the frame of a request with another body, since some of it may have been learned.
func (l *line) encode(body []byte) []byte {
	b := append([]byte{0, 0, 0, 0, byte(l.command), l.flags}, l.id[:]...)
	for _, s := range l.auth {
		b = append(b, byte(len(s)))
		b = append(b, s...)
	}
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func (l *line) String() string { return fmt.Sprintf("frame %d (%s)", l.n, l.command) }

// readCapture reads a recording: .jsonl as the README of its folder describes it, or .txt, the vectors.
func readCapture(path string) ([]line, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var lines []line
	switch filepath.Ext(path) {
	case ".jsonl":
		lines, err = parseJSONL(b)
	case ".txt":
		lines, err = parseVectors(b)
	default:
		return nil, fmt.Errorf("%s: neither .jsonl nor .txt", path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return lines, nil
}

func parseJSONL(b []byte) ([]line, error) {
	var lines []line
	scanner := bufio.NewScanner(bytes.NewReader(b))
	scanner.Buffer(nil, 64<<20)
	for at := 1; scanner.Scan(); at++ {
		l, err := parseJSON(scanner.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		if l.n == 0 {
			l.n = at // a tally
		}
		if l.n != at {
			return nil, fmt.Errorf("line %d has n = %d", at, l.n)
		}
		lines = append(lines, l)
	}
	return lines, scanner.Err()
}

func parseJSON(b []byte) (line, error) {
	var in struct {
		N, Rawlen                             int
		Ms                                    float64
		Conn, Dir, Name, Corr, Payload, Event string
		How                                   string
		PingAnswered                          *bool  `json:"ping_answered"`
		Cut                                   bool   `json:"payload_cut"`
		Len                                   int    `json:"payload_len"`
		Hash                                  string `json:"payload_sha256"`
		Cmd, Flags                            byte
		Auth                                  []string
		Raw                                   *string

		Request, Reason, Body string  // of HTTP
		Sent                  *string `json:"body_sent"`
		Status                int
		Headers               map[string]string

		Nodes                  []string // of a cluster
		Master, Slave1, Slave2 string
		Result, Stored         any
		Missing, Surplus       []int64
		Count                  int
	}
	if err := json.Unmarshal(b, &in); err != nil {
		return line{}, err
	}
	l := line{n: in.N, ms: in.Ms, conn: in.Conn, how: in.How, kind: remark}
	if in.Event != "" {
		l.event, l.nodes, l.missing, l.surplus = in.Event, in.Nodes, in.Missing, in.Surplus
		if in.Master != "" {
			l.told = &toldNodes{in.Master, in.Slave1, in.Slave2}
		}
		switch {
		case in.Event == "tally":
			result, _ := in.Result.(string)
			l.tally = &tally{result, in.Stored == "in stream", in.Count}
		case in.Event == "connected":
			l.kind = connected
		case in.Event == "connection ended" && strings.HasPrefix(in.How, "server closed"):
			l.kind = serverClosed
		case in.Event == "connection ended" && in.How == "client closed":
			l.kind = clientClosed
		case in.Event == "still open" && in.PingAnswered == nil:
			l.kind = stuck
		case in.Event == "no answer":
			l.kind = silence
		case in.Event == "send failed":
			l.kind = sendFailed
		case in.Event == "http" && in.Status != 0:
			l.kind, l.http = overHTTP, &httpPair{n: in.N, login: in.Auth, header: http.Header{}}
			l.http.method, l.http.path, _ = strings.Cut(in.Request, " ")
			if in.Sent != nil {
				l.http.body, l.http.hasBody = *in.Sent, true
			}
			l.http.answer = httpReply{status: in.Status, reason: in.Reason, header: http.Header{}, body: strings.TrimSpace(in.Body)}
			for name, value := range in.Headers {
				l.http.answer.header.Set(name, value)
			}
		case !slices.Contains(remarks, in.Event):
			l.kind = beyond
		}
		return l, nil
	}
	hexes := in.Payload
	switch {
	case in.Dir == "c2s" && in.Raw != nil:
		l.kind, hexes = rawBytes, *in.Raw
	case in.Dir == "c2s":
		l.kind = request
	case in.Dir == "s2c" && in.Raw == nil:
		l.kind = reply
	default:
		return line{}, fmt.Errorf("neither an event nor a frame")
	}
	var err error
	if l.body, err = hex.DecodeString(hexes); err != nil {
		return line{}, err
	}
	if in.Cut {
		if l.body, err = uncut(l.body, in.Len, in.Hash); err != nil {
			return line{}, err
		}
	}
	if l.kind == rawBytes {
		if len(l.body) != in.Rawlen {
			return line{}, fmt.Errorf("%d bytes, and rawlen is %d", len(l.body), in.Rawlen)
		}
		l.wholeFrame()
		return l, nil
	}
	id, err := hex.DecodeString(in.Corr)
	if err != nil || len(id) != len(l.id) {
		return line{}, fmt.Errorf("corr %q is no correlation id", in.Corr)
	}
	copy(l.id[:], id)
	l.command, l.flags, l.auth = messages.Command(in.Cmd), in.Flags, in.Auth
	// A probe that knew no name wrote the code.
	if name := l.command.String(); in.Name != name && !strings.HasPrefix(in.Name, "0x") {
		return line{}, fmt.Errorf("command %#x is called %s, and %s here", in.Cmd, in.Name, name)
	}
	return l, nil
}

// uncut makes a payload whole of which only the beginning was written down: one event whose data are the last byte there,
// again and again. The hash tells that it is right.
func uncut(begin []byte, size int, hash string) ([]byte, error) {
	const tail = "\x32\x00\x20\x01" // no metadata, and the master is required
	if len(begin) == 0 || size < len(begin)+len(tail) {
		return nil, fmt.Errorf("%d bytes of %d", len(begin), size)
	}
	b := append(bytes.Clone(begin), bytes.Repeat(begin[len(begin)-1:], size-len(begin)-len(tail))...)
	b = append(b, tail...)
	if sum := sha256.Sum256(b); hex.EncodeToString(sum[:]) != hash {
		return nil, fmt.Errorf("the rest of %d bytes is not known", size)
	}
	return b, nil
}

// wholeFrame looks whether bytes are one frame.
func (l *line) wholeFrame() {
	if len(l.body) < 4 || int(binary.LittleEndian.Uint32(l.body)) != len(l.body)-4 {
		return
	}
	if f, err := messages.ParseFrame(l.body[4:]); err == nil {
		l.command, l.id, l.whole = f.Command, f.ID, true
	}
}

// parseVectors reads whole frames in hex: "> " from the client, "< " from the server, "+ " a request of ours that the
// recording does not show. The word "connection" alone begins a new connection; "closed" says that the server ends it. All else
// is said about what follows. A frame's number is its line.
func parseVectors(b []byte) ([]line, error) {
	var lines []line
	conn, at := "", 0
	for text := range strings.Lines(string(b)) {
		at++
		l := line{n: at, kind: remark}
		text = strings.TrimSpace(text)
		mark, hexes, _ := strings.Cut(text, " ")
		switch {
		case text == "connection":
			conn = fmt.Sprintf("from line %d", at)
			l.kind = connected
		case text == "closed":
			l.kind = serverClosed
		case mark == ">" || mark == "<" || mark == "+":
			frame, err := hex.DecodeString(hexes)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
			if l, err = parseVector(at, mark, frame); err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
		}
		l.conn = conn
		lines = append(lines, l)
	}
	return lines, nil
}

func parseVector(at int, mark string, frame []byte) (line, error) {
	l := line{n: at, kind: reply, made: mark == "+"}
	if mark != "<" {
		l.kind = request
	}
	f, err := messages.ParseFrame(frame[min(4, len(frame)):])
	if err != nil && l.kind == request {
		l.kind, l.body = rawBytes, frame
		return l, nil
	}
	if err != nil {
		return line{}, err
	}
	if got := int(binary.LittleEndian.Uint32(frame)); got != len(frame)-4 {
		return line{}, fmt.Errorf("the length prefix says %d, and %d bytes follow", got, len(frame)-4)
	}
	l.command, l.id, l.body = f.Command, f.ID, f.Body
	if f.HasCredentials {
		l.flags, l.auth = 1, []string{string(f.Login), string(f.Password)}
	}
	return l, nil
}

// messageOf makes an empty message for the body of a command, nil when that is a text, or none.
func messageOf(c messages.Command) proto.Message {
	if m, ok := bodies[c]; ok {
		return proto.Clone(m)
	}
	return nil
}

var bodies = map[messages.Command]proto.Message{
	messages.WriteEvents:                               &pb.WriteEvents{},
	messages.WriteEventsCompleted:                      &pb.WriteEventsCompleted{},
	messages.TransactionStart:                          &pb.TransactionStart{},
	messages.TransactionStartCompleted:                 &pb.TransactionStartCompleted{},
	messages.TransactionWrite:                          &pb.TransactionWrite{},
	messages.TransactionWriteCompleted:                 &pb.TransactionWriteCompleted{},
	messages.TransactionCommit:                         &pb.TransactionCommit{},
	messages.TransactionCommitCompleted:                &pb.TransactionCommitCompleted{},
	messages.DeleteStream:                              &pb.DeleteStream{},
	messages.DeleteStreamCompleted:                     &pb.DeleteStreamCompleted{},
	messages.ReadEvent:                                 &pb.ReadEvent{},
	messages.ReadEventCompleted:                        &pb.ReadEventCompleted{},
	messages.ReadStreamEventsForward:                   &pb.ReadStreamEvents{},
	messages.ReadStreamEventsForwardCompleted:          &pb.ReadStreamEventsCompleted{},
	messages.ReadStreamEventsBackward:                  &pb.ReadStreamEvents{},
	messages.ReadStreamEventsBackwardCompleted:         &pb.ReadStreamEventsCompleted{},
	messages.ReadAllEventsForward:                      &pb.ReadAllEvents{},
	messages.ReadAllEventsForwardCompleted:             &pb.ReadAllEventsCompleted{},
	messages.ReadAllEventsBackward:                     &pb.ReadAllEvents{},
	messages.ReadAllEventsBackwardCompleted:            &pb.ReadAllEventsCompleted{},
	messages.FilteredReadAllEventsForward:              &pb.FilteredReadAllEvents{},
	messages.FilteredReadAllEventsForwardCompleted:     &pb.FilteredReadAllEventsCompleted{},
	messages.FilteredReadAllEventsBackward:             &pb.FilteredReadAllEvents{},
	messages.FilteredReadAllEventsBackwardCompleted:    &pb.FilteredReadAllEventsCompleted{},
	messages.SubscribeToStream:                         &pb.SubscribeToStream{},
	messages.SubscriptionConfirmation:                  &pb.SubscriptionConfirmation{},
	messages.StreamEventAppeared:                       &pb.StreamEventAppeared{},
	messages.UnsubscribeFromStream:                     &pb.UnsubscribeFromStream{},
	messages.SubscriptionDropped:                       &pb.SubscriptionDropped{},
	messages.ConnectToPersistentSubscription:           &pb.ConnectToPersistentSubscription{},
	messages.PersistentSubscriptionConfirmation:        &pb.PersistentSubscriptionConfirmation{},
	messages.PersistentSubscriptionStreamEventAppeared: &pb.PersistentSubscriptionStreamEventAppeared{},
	messages.CreatePersistentSubscription:              &pb.CreatePersistentSubscription{},
	messages.CreatePersistentSubscriptionCompleted:     &pb.CreatePersistentSubscriptionCompleted{},
	messages.DeletePersistentSubscription:              &pb.DeletePersistentSubscription{},
	messages.DeletePersistentSubscriptionCompleted:     &pb.DeletePersistentSubscriptionCompleted{},
	messages.PersistentSubscriptionAckEvents:           &pb.PersistentSubscriptionAckEvents{},
	messages.PersistentSubscriptionNakEvents:           &pb.PersistentSubscriptionNakEvents{},
	messages.UpdatePersistentSubscription:              &pb.UpdatePersistentSubscription{},
	messages.UpdatePersistentSubscriptionCompleted:     &pb.UpdatePersistentSubscriptionCompleted{},
	messages.ScavengeDatabase:                          &pb.ScavengeDatabase{},
	messages.ScavengeDatabaseCompleted:                 &pb.ScavengeDatabaseCompleted{},
	messages.FilteredSubscribeToStream:                 &pb.FilteredSubscribeToStream{},
	messages.CheckpointReached:                         &pb.CheckpointReached{},
	messages.NotHandled:                                &pb.NotHandled{},
	messages.IdentifyClient:                            &pb.IdentifyClient{},
}
