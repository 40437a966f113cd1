package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/server"
)

// target is a new server.
func target(t *testing.T) string {
	t.Helper()
	s, err := server.Start(server.Config{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return strings.Replace(s.URL(), "://", "://admin:changeit@", 1)
}

// good runs a command that has to succeed, and returns its lines.
func good(t *testing.T, stdin string, args ...string) []string {
	t.Helper()
	code, stdout, stderr := runWith(t, stdin, args...)
	require.Zero(t, code, stderr)
	require.Empty(t, stderr)
	return strings.Split(strings.TrimSuffix(stdout, "\n"), "\n")
}

// parsed are lines as events.
func parsed(t *testing.T, lines []string) []eventLine {
	t.Helper()
	all := make([]eventLine, len(lines))
	for i, line := range lines {
		require.NoError(t, json.Unmarshal([]byte(line), &all[i]), line)
	}
	return all
}

// data are the lines' data, with their numbers in front.
func data(t *testing.T, lines []string) (all []string) {
	t.Helper()
	for _, e := range parsed(t, lines) {
		number, err := json.Marshal(e.Number)
		require.NoError(t, err)
		all = append(all, string(number)+" "+string(e.Data))
	}
	return all
}

func TestAppendAndRead(t *testing.T) {
	to := "--connect=" + target(t)
	require.Equal(t, []string{`{"stream":"s","number":0}`, `{"stream":"s","number":1}`},
		good(t, "{\"a\": \"<1>\"}\n\n  2\n", "append", "s", "--type=t", "--expected=none", to))
	require.Equal(t, []string{`{"stream":"s","number":2}`}, good(t, "null", "append", "s", "--expected=1", to))
	require.Equal(t, []string{`{"stream":"s","number":3}`}, good(t, "[]\n", "append", "s", "--expected=exists", to))
	require.Equal(t, []string{""}, good(t, "", "append", "s", to))

	all := []string{`0 {"a":"<1>"}`, "1 2", "2 null", "3 []"}
	require.Equal(t, all, data(t, good(t, "", "read", "s", to)))
	require.Equal(t, all[1:3], data(t, good(t, "", "read", "s", "--from=1", "--count=2", to)))
	require.Equal(t, []string{all[3], all[2]}, data(t, good(t, "", "read", "s", "--backward", "--count=2", to)))
	require.Equal(t, []string{all[1], all[0]}, data(t, good(t, "", "read", "s", "--backward", "--from=1", to)))
	require.Equal(t, all[2:], data(t, good(t, "", "tail", "s", "-n2", to)))

	first := parsed(t, good(t, "", "read", "s", "--count=1", to))[0]
	require.Equal(t, "t", first.Type)
	require.Len(t, first.ID, 36)
	require.WithinDuration(t, time.Now(), first.Created, time.Minute)
	require.Empty(t, first.Position)
	last := parsed(t, good(t, "", "read", "$all", "--backward", "--count=1", to))
	require.EqualValues(t, 3, last[0].Number)
	require.Equal(t, last, parsed(t, good(t, "", "read", "$all", "--from="+last[0].Position, to)))
	require.Equal(t, last, parsed(t, good(t, "", "tail", "$all", "-n1", to)))
}

// TestAppendStopsAtTheFirstMistake: the events before it are written, and nothing behind it.
func TestAppendStopsAtTheFirstMistake(t *testing.T) {
	to := "--connect=" + target(t)
	code, stdout, stderr := runWith(t, "1\n{\n3\n", "append", "s", to)
	require.Equal(t, exitFailed, code)
	require.JSONEq(t, `{"stream":"s","number":0}`, stdout)
	require.Contains(t, stderr, "line 2 is no JSON")
	require.Len(t, good(t, "", "read", "s", to), 1)

	code, stdout, stderr = runWith(t, "1\n", "append", "s", "--expected=none", to)
	require.Equal(t, exitFailed, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "line 1: ")
	require.Contains(t, stderr, "s")
}

// TestPrintedEvents: what is no JSON is whole in base64, and a link shows what it leads to.
func TestPrintedEvents(t *testing.T) {
	to := target(t)
	c, err := eventstore.Connect(t.Context(), to)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	write := func(stream string, e eventstore.EventData) {
		_, err := c.Append(t.Context(), stream, eventstore.Any, []eventstore.EventData{e})
		require.NoError(t, err)
	}
	write("s", eventstore.EventData{Type: "t", Data: []byte{0, 0xFF}, Metadata: []byte("m")})
	write("s", eventstore.EventData{Type: "t", JSON: true, Data: []byte("{"), Metadata: []byte(`{"k": 1}`)})
	write("links", eventstore.EventData{Type: "$>", Data: []byte("1@s")})
	write("links", eventstore.EventData{Type: "$>", Data: []byte("7@s")})

	events := parsed(t, good(t, "", "read", "s", "--connect", to))
	require.Equal(t, []byte{0, 0xFF}, events[0].DataBase64)
	require.Equal(t, []byte("m"), events[0].MetadataBase64)
	require.Nil(t, events[0].Data)
	require.Equal(t, []byte("{"), events[1].DataBase64)
	require.JSONEq(t, `{"k":1}`, string(events[1].Metadata))

	links := parsed(t, good(t, "", "read", "links", "--connect", to))
	require.Equal(t, &linkLine{"links", 0}, links[0].Link)
	require.Equal(t, "s", links[0].Stream)
	require.Nil(t, links[1].Link)
	require.Equal(t, "7@s", string(links[1].DataBase64))
}

func TestClientsThatFail(t *testing.T) {
	to := "--connect=" + target(t)
	for _, args := range []string{"read none", "tail none", "read $all --from=5", "read s --from=end"} {
		code, stdout, stderr := runProgram(t, append(strings.Fields(args), to)...)
		require.Equal(t, exitFailed, code, args)
		require.Empty(t, stdout)
		require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
	}
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	addr := strings.TrimPrefix(web.URL, "http://")
	code, _, stderr := runProgram(t, "ping", "--connect", "tcp://admin:secret@"+addr)
	require.Equal(t, exitFailed, code)
	require.Contains(t, stderr, addr)
	require.NotContains(t, stderr, "secret")
}

func TestPing(t *testing.T) {
	to := target(t)
	var answer struct {
		Addr         string
		Milliseconds float64
	}
	require.NoError(t, json.Unmarshal([]byte(good(t, "", "ping", "--connect", to)[0]), &answer))
	require.Equal(t, strings.TrimPrefix(to, "tcp://admin:changeit@"), answer.Addr)
	require.Positive(t, answer.Milliseconds)
}

// lasting is a command that runs until it is interrupted.
type lasting struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	stderr bytes.Buffer
}

func last(t *testing.T, args ...string) *lasting {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("there is no interrupt to send on Windows")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	l := &lasting{cmd: exec.CommandContext(ctx, program, args...)}
	l.cmd.Stderr = &l.stderr
	out, err := l.cmd.StdoutPipe()
	require.NoError(t, err)
	l.out = bufio.NewScanner(out)
	l.in, err = l.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, l.cmd.Start())
	t.Cleanup(func() {
		_ = l.cmd.Process.Kill()
		_ = l.cmd.Wait()
	})
	return l
}

func (l *lasting) line(t *testing.T) string {
	t.Helper()
	if !l.out.Scan() {
		_ = l.cmd.Wait() // standard error is whole then
		require.Fail(t, "it ended", l.stderr.String())
	}
	return l.out.Text()
}

// interrupt ends the command, which has nothing more to say.
func (l *lasting) interrupt(t *testing.T) (code int) {
	t.Helper()
	require.NoError(t, l.cmd.Process.Signal(os.Interrupt))
	require.False(t, l.out.Scan(), l.out.Text())
	_ = l.cmd.Wait()
	return l.cmd.ProcessState.ExitCode()
}

func TestFollow(t *testing.T) {
	to := "--connect=" + target(t)
	good(t, "1\n2\n3\n", "append", "s", to)
	l := last(t, "tail", "s", "-f", "-n2", to)
	require.Equal(t, []string{"1 2", "2 3"}, data(t, []string{l.line(t), l.line(t)}))
	good(t, "4\n", "append", "s", to)
	require.Equal(t, []string{"3 4"}, data(t, []string{l.line(t)}))
	require.Zero(t, l.interrupt(t), &l.stderr)
	require.Empty(t, l.stderr.String())

	// A stream that is not there yet.
	l = last(t, "tail", "later", "-f", to)
	good(t, "1\n", "append", "later", to)
	require.Equal(t, []string{"0 1"}, data(t, []string{l.line(t)}))
	require.Zero(t, l.interrupt(t), &l.stderr)
}

func TestFollowEverything(t *testing.T) {
	to := "--connect=" + target(t)
	good(t, "1\n2\n", "append", "a-1", "--type", "red", to)
	good(t, "3\n", "append", "b-1", "--type", "blue", to)
	all := last(t, "tail", "$all", "-f", "-n", "2", to)
	streams := last(t, "tail", "$all", "-f", "--filter-stream", "a-", "--filter-stream", "c-", to)
	types := last(t, "tail", "$all", "-f", "--filter-type", "bl", to)
	one := last(t, "tail", "a-1", "-f", "-n1", "--filter-type", "red", to)
	lines := func(l *lasting, count int) (lines []string) {
		for range count {
			lines = append(lines, l.line(t))
		}
		return data(t, lines)
	}
	require.Equal(t, []string{"1 2", "0 3"}, lines(all, 2))
	require.Equal(t, []string{"0 1", "1 2"}, lines(streams, 2))
	require.Equal(t, []string{"0 3"}, lines(types, 1))
	require.Equal(t, []string{"1 2"}, lines(one, 1))
	good(t, "4\n", "append", "a-1", "--type", "blue", to)
	good(t, "5\n", "append", "a-1", "--type", "red", to)
	good(t, "6\n", "append", "c-1", "--type", "green", to)
	require.Equal(t, []string{"2 4", "3 5", "0 6"}, lines(all, 3))
	require.Equal(t, []string{"2 4", "3 5", "0 6"}, lines(streams, 3))
	require.Equal(t, []string{"2 4"}, lines(types, 1))
	require.Equal(t, []string{"3 5"}, lines(one, 1))
	for _, l := range []*lasting{all, streams, types, one} {
		require.Zero(t, l.interrupt(t), &l.stderr)
		require.Empty(t, l.stderr.String())
	}
	require.Equal(t, []string{"2 4"}, data(t, good(t, "", "tail", "$all", "-n1", "--filter-type", "blue", to)))
	for _, wrong := range [][]string{{"$all", "--filter-type", "a", "--filter-stream", "b"}, {"s", "--filter-stream", "b"}} {
		code, _, stderr := runProgram(t, append([]string{"tail", to}, wrong...)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, stderr, "--filter-stream: want")
	}
}

// TestAppendFromATerminal: an event is written when its line is there, and an interrupt ends the wait for the next.
func TestAppendFromATerminal(t *testing.T) {
	l := last(t, "append", "s", "--connect="+target(t))
	for _, want := range []string{`{"stream":"s","number":0}`, `{"stream":"s","number":1}`} {
		_, err := io.WriteString(l.in, "{}\n")
		require.NoError(t, err)
		require.Equal(t, want, l.line(t))
	}
	require.Equal(t, exitFailed, l.interrupt(t))
	require.Equal(t, "eventstore: interrupted\n", l.stderr.String())
}
