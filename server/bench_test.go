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
	_, conn := dialServer(b, Config{DB: folder(b)})
	return conn
}

func dialServer(b *testing.B, cfg Config) (*Server, net.Conn) {
	b.Helper()
	s, err := Start(cfg)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	return s, dialTo(b, s)
}

func dialTo(b *testing.B, s *Server) net.Conn {
	b.Helper()
	conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", s.listener.Addr().String())
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	return conn
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

// BenchmarkReadAllPage is BenchmarkReadPage for all streams.
func BenchmarkReadAllPage(b *testing.B) {
	for name, m := range map[string]*messages.AllRead{
		"forward": {Count: 500}, "backward": {Commit: -1, Prepare: -1, Count: 500, Backward: true},
	} {
		b.Run(name, func(b *testing.B) {
			conn := dialTCP(b)
			r := messages.NewReader(conn, 256<<10)
			events := make([]messages.NewEvent, 500)
			for i := range events {
				events[i] = messages.NewEvent{ID: uuid.New(), Type: "happened", ContentType: 1, Data: make([]byte, 256)}
			}
			credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
			require.NoError(b, err)
			ask := func(request []byte) messages.Frame {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				f, err := r.Next()
				if err != nil {
					b.Fatal(err)
				}
				return f
			}
			write, err := messages.AppendFrame(nil, messages.ID{1}, nil, &messages.Append{Stream: "bench", Expected: expectNoStream, Events: events})
			require.NoError(b, err)
			ask(write)
			request, err := messages.AppendFrame(nil, messages.ID{1}, credentials, m)
			require.NoError(b, err)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				f := ask(request)
				b.SetBytes(int64(len(f.Body)))
			}
		})
	}
}

// BenchmarkLive delivers events of 256 bytes, written 100 at a time, to one subscription over TCP, beside idle ones on the
// same connection. An operation is one event, written and delivered.
func BenchmarkLive(b *testing.B) {
	for name, live := range map[string]struct {
		stream string
		idle   int
	}{"stream": {"bench", 0}, "all": {"", 0}, "5000 idle": {"bench", 5000}} {
		b.Run(name, func(b *testing.B) {
			const each = 100
			conn := dialTCP(b)
			r := messages.NewReader(conn, 256<<10)
			credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
			require.NoError(b, err)
			subscribe := func(id messages.ID, stream string) {
				body := append([]byte{0x0A, byte(len(stream))}, stream...)
				frame, err := messages.AppendFrame(nil, id, credentials, messages.Raw(messages.SubscribeToStream, body))
				require.NoError(b, err)
				_, err = conn.Write(frame)
				require.NoError(b, err)
				f, err := r.Next()
				require.NoError(b, err)
				require.Equal(b, messages.SubscriptionConfirmation, f.Command)
			}
			for i := range live.idle {
				subscribe(messages.ID{2, byte(i), byte(i >> 8)}, "idle")
			}
			subscribe(messages.ID{1}, live.stream)
			events := make([]messages.NewEvent, each)
			for i := range events {
				events[i] = messages.NewEvent{ID: uuid.New(), Type: "happened", ContentType: 1, Data: make([]byte, 256)}
			}
			request := &messages.Append{Stream: "bench", Expected: expectAny, Events: events}
			var frame []byte
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; i < b.N; i += each {
				for k := range events {
					events[k].ID[0], events[k].ID[1], events[k].ID[2], events[k].ID[3] = byte(i), byte(i>>8), byte(i>>16), byte(i>>24)
				}
				if frame, err = messages.AppendFrame(frame[:0], messages.ID{3}, nil, request); err != nil {
					b.Fatal(err)
				}
				if _, err := conn.Write(frame); err != nil {
					b.Fatal(err)
				}
				for seen := 0; seen < each+1; { // and the answer
					f, err := r.Next()
					if err != nil {
						b.Fatal(err)
					}
					if f.Command != messages.HeartbeatRequest {
						seen++
					}
				}
			}
		})
	}
}
