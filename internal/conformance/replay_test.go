package conformance_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/server"
)

// TestReplay plays the recordings of real servers to the embedded one.
func TestReplay(t *testing.T) {
	m, err := readManifest(capturesDir)
	require.NoError(t, err)
	require.NotEmpty(t, m.files)
	for _, rec := range m.files {
		t.Run(rec.path, func(t *testing.T) {
			switch rec.mode {
			case modeHTTP:
				replayHTTP(t, rec)
				return
			case modeGossip:
				replayGossip(t, rec, readGossip(t, rec)).report(t, "")
				return
			case modeFailovers:
				replayFailovers(t, rec).report(t, "")
				return
			case modeBursts:
				replayBursts(t, rec).report(t, "")
				return
			default:
			}
			lines, err := readCapture(filepath.Join(capturesDir, filepath.FromSlash(rec.path)))
			require.NoError(t, err)
			answers := requireDecodes(t, lines)
			var p *playing
			switch rec.mode {
			case modeReplay:
				replay := newPlayer(t, newServed(t, server.Config{Dialect: rec.dialect()}), rec, lines)
				replay.play()
				p = replay.playing
			case modeProjections:
				srv := newServed(t, server.Config{Dialect: rec.dialect(), Projections: true})
				replay := newPlayer(t, srv, rec, lines)
				replay.ready = func() { require.NoError(t, srv.WaitForProjections(t.Context())) }
				replay.play()
				p = replay.playing
			case modeTimed:
				synctest.Test(t, func(t *testing.T) {
					timed := newTimedPlayer(t, eventstoretest.Run(t, eventstoretest.InMemory(), speaking(rec.dialect())), rec, lines)
					timed.play()
					p = timed.playing
				})
			case modeCluster:
				p = replayCluster(t, rec, lines)
			case modeTimeline:
				p = replayTimeline(t, rec, lines)
			default:
				return
			}
			p.report(t, fmt.Sprintf(" of %d recorded answers", answers))
		})
	}
}

// report tells what was found.
func (p *playing) report(t *testing.T, of string) {
	t.Helper()
	for _, problem := range append(p.problems, p.rec.unlisted(p.found)...) {
		t.Error(problem)
	}
	t.Logf("%d%s compared, %d ranges left out, %d differences listed", p.compared, of, len(p.rec.outs)+len(p.rec.words), len(p.rec.diffs))
	require.Positive(t, p.compared)
}

// dialect is that of the server which was recorded: the name of the folder ends with its version.
func (r *recording) dialect() server.Dialect {
	folder := path.Dir(r.path)
	d, err := server.ParseDialect(folder[strings.LastIndexByte(folder, '-')+1:])
	if err != nil {
		return server.Dialect{} // of 4.1.4
	}
	return d
}

// served is an embedded server without a proxy before it, and with all that it has: HTTP, and projections that can be waited for.
type served struct {
	net.Dialer
	*server.Server
}

// onDisk has the embedded servers keep their logs on disk when it is set, also those of eventstoretest.
const onDisk = "EVENTSTORE_TEST_DISK"

func newServed(tb testing.TB, cfg server.Config) *served {
	tb.Helper()
	if os.Getenv(onDisk) != "" {
		cfg.DB = tb.TempDir()
	}
	srv, err := server.Start(cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, srv.Close()) })
	return &served{Server: srv}
}

// DirectURL is the server's URL with the credentials of its administrator.
func (p *served) DirectURL() string {
	return strings.Replace(p.URL(), "//", "//admin:changeit@", 1)
}

func (p *served) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return p.DialContext(ctx, network, addr)
}

// requireDecodes decodes every answer, and returns how many there are.
func requireDecodes(t *testing.T, lines []line) int {
	t.Helper()
	answers := 0
	for _, l := range lines {
		if l.kind != reply {
			continue
		}
		answers++
		if m := messageOf(l.command); m != nil {
			require.NoError(t, decode(l.body, m), "%s", &l)
			require.Empty(t, m.ProtoReflect().GetUnknown(), "%s", &l)
		}
	}
	return answers
}
