package eventstore_test

import (
	"bytes"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/internal/scripted"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// The log, at its lowest level, tells what becomes of the connection and why calls are sent again, and has neither passwords
// nor data.
func TestTheLogHasNoSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := 0
		l := &line{Network: scripted.Listen(t, scripted.Identified(func(p *scripted.Peer) {
			alive(p, func(f messages.Frame) bool {
				switch {
				case f.Command == messages.Ping:
					p.Send(messages.Pong, f.ID, "")
					p.Send(messages.Pong, f.ID, "secret-late")
				case refused == 0:
					refused++
					p.SendRequest(f.ID, messages.Of(messages.NotHandled, &pb.NotHandled{Reason: pb.NotHandled_TooBusy.Enum()}))
				case refused == 1:
					refused++
					p.Send(messages.NotAuthenticated, f.ID, "Not Authenticated")
				case string(f.Password) == "secret-of-the-call" && refused == 2:
					refused++
					p.SendRequest(f.ID, messages.Of(messages.WriteEventsCompleted, &pb.WriteEventsCompleted{
						Result: pb.OperationResult_AccessDenied.Enum(), FirstEventNumber: proto.Int64(-1), LastEventNumber: proto.Int64(-1),
					}))
				default:
					stored(p, f.ID)
				}
				return true
			})
		}))}
		var log bytes.Buffer // the handler has a lock
		c, err := eventstore.Connect(t.Context(), "tcp://admin:secret-password@"+scripted.Addr, eventstore.WithDialer(l.Dial),
			eventstore.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 100}))))
		require.NoError(t, err)
		events := []eventstore.EventData{{Type: "t", Data: []byte("secret-data"), Metadata: []byte("secret-metadata")}}
		_, err = c.Append(t.Context(), "s", eventstore.Any, events)
		require.ErrorIs(t, err, eventstore.ErrNotAuthenticated)
		texts := err.Error()
		_, err = c.Append(t.Context(), "s", eventstore.Any, events, eventstore.As("other", "secret-of-the-call"))
		require.ErrorIs(t, err, eventstore.ErrAccessDenied)
		texts += err.Error()
		require.NoError(t, c.Ping(t.Context()))
		synctest.Wait() // until it is answered twice
		l.cut()
		_, err = c.Append(t.Context(), "s", eventstore.Any, events)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		require.NoError(t, c.Close())
		texts += log.String()
		require.NotContains(t, texts, "secret")
		for _, says := range []string{"connected to server:1113", "reconnecting", "too busy", "a frame that nobody waits for", "closed"} {
			require.Contains(t, log.String(), says)
		}
	})
}
