package server

import (
	"net"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/messages"
)

// dialTCP connects a raw client over the loopback interface.
func dialTCP(b *testing.B) net.Conn {
	b.Helper()
	_, conn := dialServer(b, Config{})
	return conn
}

func dialServer(b *testing.B, cfg Config) (*Server, net.Conn) {
	b.Helper()
	s, err := Start(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", s.listener.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return s, conn
}

// BenchmarkAppend1024InFlight appends events of 256 bytes one by one, 1,024 unanswered at a time, over TCP. The client
// does as little as it can: it sends the same frame with another event id and only counts the answers.
func BenchmarkAppend1024InFlight(b *testing.B) {
	conn := dialTCP(b)
	append1024InFlight(b, conn, "bench")
}

// BenchmarkAppendProjected is BenchmarkAppend1024InFlight with projections, up to the last link: two for each event.
func BenchmarkAppendProjected(b *testing.B) {
	s, conn := dialServer(b, Config{Projections: true})
	append1024InFlight(b, conn, "bench-1")
	require.NoError(b, s.WaitForProjections(b.Context()))
}

func append1024InFlight(b *testing.B, conn net.Conn, stream string) {
	b.Helper()
	const inFlight = 1024
	request := &messages.Append{Stream: stream, Expected: expectAny, RequireLeader: true, Events: []messages.NewEvent{
		{ID: uuid.New(), Type: "happened", ContentType: 1, Data: make([]byte, 256)},
	}}
	slots := make(chan struct{}, inFlight)
	done := make(chan error, 1)
	go func() {
		r := messages.NewReader(conn, 64<<10)
		for range b.N {
			f, err := r.Next()
			for err == nil && f.Command == messages.HeartbeatRequest {
				f, err = r.Next()
			}
			if err != nil {
				done <- err
				return
			}
			<-slots
		}
		done <- nil
	}()
	b.ReportAllocs()
	b.ResetTimer()
	buf := make([]byte, 0, 64<<10)
	for i := range b.N {
		request.Events[0].ID[0], request.Events[0].ID[1] = byte(i), byte(i>>8)
		request.Events[0].ID[2], request.Events[0].ID[3] = byte(i>>16), byte(i>>24)
		var err error
		buf, err = messages.AppendFrame(buf, messages.ID{1, byte(i)}, nil, request)
		if err != nil {
			b.Fatal(err)
		}
		full := false
		select {
		case slots <- struct{}{}:
		default:
			full = true
		}
		if full || len(buf) > 32<<10 || i == b.N-1 {
			if _, err := conn.Write(buf); err != nil {
				b.Fatal(err)
			}
			buf = buf[:0]
		}
		if full {
			slots <- struct{}{}
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// BenchmarkReadPage reads a page of 500 events of 256 bytes over TCP, one request at a time.
func BenchmarkReadPage(b *testing.B) {
	conn := dialTCP(b)
	r := messages.NewReader(conn, 256<<10)
	ask := func(request messages.Request) messages.Frame {
		frame, err := messages.AppendFrame(nil, messages.ID{1}, nil, request)
		if err == nil {
			_, err = conn.Write(frame)
		}
		f, readErr := r.Next()
		if err != nil || readErr != nil {
			b.Fatal(err, readErr)
		}
		return f
	}
	events := make([]messages.NewEvent, 500)
	for i := range events {
		events[i] = messages.NewEvent{ID: uuid.New(), Type: "happened", ContentType: 1, Data: make([]byte, 256)}
	}
	ask(&messages.Append{Stream: "bench", Expected: expectNoStream, Events: events})
	request, err := messages.AppendFrame(nil, messages.ID{1}, nil, &messages.StreamRead{Stream: "bench", Count: 500})
	require.NoError(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		f, err := r.Next()
		if err != nil {
			b.Fatal(err)
		}
		if f.Command != messages.ReadStreamEventsForwardCompleted {
			b.Fatal(f.Command)
		}
		b.SetBytes(int64(len(f.Body)))
	}
}
