package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

// program is the built command.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "eventstore")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "eventstore")
		if runtime.GOOS == "windows" {
			program += ".exe"
		}
		if out, err := exec.CommandContext(context.Background(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

// process is a running program.
type process struct {
	cmd       *exec.Cmd
	tcp, http string         // the URLs that it printed
	lines     *bufio.Scanner // what it prints behind them
	stderr    *bytes.Buffer
}

// start runs the program until it has printed its URLs. It is killed with the test, or after a minute.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	p := &process{cmd: exec.CommandContext(ctx, program, append([]string{"serve"}, args...)...), stderr: new(bytes.Buffer)}
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	p.lines = bufio.NewScanner(stdout)
	for _, url := range []*string{&p.tcp, &p.http} {
		if !p.lines.Scan() {
			_ = p.cmd.Wait() // standard error is whole then
			require.Fail(t, "it ended", p.stderr.String())
		}
		*url = p.lines.Text()
	}
	return p
}

// end sends a signal and waits for the exit code.
func (p *process) end(t *testing.T, signal os.Signal) int {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(signal))
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}

// runProgram runs the program to its end.
func runProgram(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return runWith(t, "", args...)
}

// runWith runs the program to its end, with a text as its standard input.
func runWith(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &complaint
	_ = cmd.Run()
	require.NoError(t, ctx.Err())
	return cmd.ProcessState.ExitCode(), out.String(), complaint.String()
}

func TestServe(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM to send on Windows")
	}
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			p := start(t, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--projections", "system")
			require.Regexp(t, `^tcp://127\.0\.0\.1:\d+$`, p.tcp)
			require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, p.http)

			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			c, err := eventstore.Connect(ctx, strings.Replace(p.tcp, "tcp://", "tcp://admin:changeit@", 1))
			require.NoError(t, err)
			defer func() { require.NoError(t, c.Close()) }()
			_, err = c.Append(ctx, "a", eventstore.NoStream, []eventstore.EventData{{Type: "t", Data: []byte("data")}})
			require.NoError(t, err)
			e, err := c.ReadEvent(ctx, "a", eventstore.Start)
			require.NoError(t, err)
			require.Equal(t, "data", string(e.Event.Data))
			require.Eventually(t, func() bool { // --projections
				e, err := c.ReadEvent(ctx, "$et-t", eventstore.Start)
				return err == nil && e.Event.Stream == "a" && string(e.Link.Data) == "0@a"
			}, 10*time.Second, time.Millisecond)
			require.Contains(t, pinged(t, p.http), "Ping request successfully handled")

			// The client is connected still, and the HTTP connection too.
			require.Zero(t, p.end(t, signal))
			require.Contains(t, p.stderr.String(), "level=INFO msg=\"server started\" url="+p.tcp)
			require.Contains(t, p.stderr.String(), "level=INFO msg=\"server closed\" url="+p.tcp)
			require.NotContains(t, p.stderr.String(), "level=ERROR")
		})
	}
}

// TestServeAFolder: what one process wrote is there for the next, which has to wait until the first has ended.
func TestServeAFolder(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM to send on Windows")
	}
	args := []string{"--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--db", t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for n := range int64(2) {
		p := start(t, args...)
		c, err := eventstore.Connect(ctx, strings.Replace(p.tcp, "tcp://", "tcp://admin:changeit@", 1))
		require.NoError(t, err)
		_, err = c.Append(ctx, "a", eventstore.ExpectedVersion(n-1), []eventstore.EventData{{Type: "t"}})
		require.NoError(t, err)
		require.NoError(t, c.Close())
		code, _, stderr := runProgram(t, append([]string{"serve"}, args...)...)
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "is open in another process")
		require.Zero(t, p.end(t, syscall.SIGTERM))
	}
}

func pinged(t *testing.T, url string) string {
	t.Helper()
	return get(t, url+"/ping")
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return string(body)
}

func TestAddressInUse(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	addr := taken.Addr().String()
	for _, args := range [][]string{
		{"--tcp", addr, "--http", "127.0.0.1:0"},
		{"--tcp", "127.0.0.1:0", "--http", addr},
	} {
		code, stdout, stderr := runProgram(t, append([]string{"serve"}, args...)...)
		require.Equal(t, exitFailed, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, addr)
		require.Contains(t, stderr, "address already in use")
		require.Contains(t, stderr, "another server may be running there")
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", `expected one of "serve",`},
		{"server", "unexpected argument server"},
		{"serve --tls", "unknown flag --tls"},
		{"serve more", "unexpected argument more"},
		{"serve --tcp", "--tcp"},
		{"serve --tcp 1113", `--tcp: "1113" is not HOST:PORT`},
		{"serve --tcp 127.0.0.1:port", `have "port"`},
		{"serve --tcp 127.0.0.1:65536", "a number from 0 to 65535"},
		{"serve --tcp :1113", `--tcp: ":1113" is not an address of this machine alone`},
		{"serve --http 0.0.0.0:2113", `--http: "0.0.0.0:2113" is not an address of this machine alone`},
		{"serve --http example.org:2113", "passwords that everybody knows and no TLS"},
		{"serve --http example.org:2113 --db x", "this server has no TLS: use one such as 127.0.0.1:2113, or --insecure"},
		{"serve --tls-cert c --tls-key k --secure 0.0.0.0:1115", "this server has passwords that everybody knows: use"},
		{"serve --tls-cert c --tls-key k --tcp 0.0.0.0:1113 --db x", `--tcp: "0.0.0.0:1113" is not`},
		{"serve --tls-cert c", "--tls-cert and --tls-key go together"},
		{"serve --tls-key k", "--tls-cert and --tls-key go together"},
		{"serve --secure 127.0.0.1:0", "--secure needs --tls-cert"},
		{"serve --dialect 20.10", "servers of 20.10 have TLS on every port"},
		{"serve --dialect 20.10 --tls-cert c --tls-key k --secure 127.0.0.1:0", "have TLS on --tcp already"},
		{"serve --dialect 6", `--dialect: no dialect is called "6": there are 3.9.3, `},
		{"read", "expected \"<stream>\""},
		{"read s --from here", `--from: want a number, a position such as C:1/P:1, start or end, have "here"`},
		{"read s --count=-1", "--count: want a number of events"},
		{"tail s -n 0", "--count: want a number of events"},
		{"append s --expected=-1", "--expected: want any, none, exists or a number"},
		{"ping --connect http://127.0.0.1", "--connect: "},
		{"serve --log loud", `--log must be one of "text","json","off"`},
		{"serve --projections all", `--projections must be one of "none","system"`},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := runProgram(t, strings.Fields(c.args)...)
			require.Equal(t, exitUsage, code)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
		})
	}
}

func TestHelp(t *testing.T) {
	for args, want := range map[string]string{"--help": "Run a server, until", "serve --help": "127.0.0.1:1113"} {
		code, stdout, stderr := runProgram(t, strings.Fields(args)...)
		require.Zero(t, code)
		require.Empty(t, stderr)
		require.Contains(t, stdout, want)
	}
}

func TestAddressesOfThisMachine(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST", "::1"} {
		require.True(t, local(host), host)
	}
	for _, host := range []string{"", "0.0.0.0", "::", "192.0.2.1", "localhost.example"} {
		require.False(t, local(host), host)
	}
}
