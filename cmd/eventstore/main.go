package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// The exit codes beside 0.
const (
	exitFailed = 1
	exitUsage  = 2
)

// commandLine is what the program understands.
type commandLine struct {
	Serve  serve        `cmd:"" help:"Run a server, until an interrupt or SIGTERM."`
	Append appendEvents `cmd:"" help:"Write the lines of the standard input, each the JSON of an event."`
	Read   read         `cmd:"" help:"Print the events of a stream, as lines of JSON."`
	Tail   tail         `cmd:"" help:"Print the last events of a stream and, with -f, those that come."`
	Ping   ping         `cmd:"" help:"Ask a server for an answer."`
}

// streams are the standard ones.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is the program with its arguments and streams; it ends by itself or with ctx and returns the exit code.
func run(ctx context.Context, args []string, std streams) int {
	var line commandLine
	helped := false
	parser, err := kong.New(&line,
		kong.Name("eventstore"),
		kong.Description("An EventStore server for tests and first steps, and a client to try one by hand."),
		kong.Writers(std.out, std.err),
		kong.Exit(func(int) { helped = true }), // only --help exits
	)
	if err != nil {
		panic(err) // the tags above are wrong
	}
	parsed, err := parser.Parse(args)
	switch {
	case helped:
		return 0
	case err != nil:
		complain(std.err, err)
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(std)
	if err := parsed.Run(); err != nil {
		complain(std.err, err)
		return exitFailed
	}
	return 0
}

func complain(stderr io.Writer, err error) {
	_, _ = fmt.Fprintf(stderr, "eventstore: %v\n", err)
}
