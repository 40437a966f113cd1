package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
)

// worker is a process of this program that is a member of the group.
type worker struct {
	name   int
	cmd    *exec.Cmd
	input  io.Closer // the worker ends when it is closed
	output io.Reader
	killed bool
}

// said is a line of a worker, or that it has ended.
type said struct {
	by      *worker
	what    string
	order   int64
	retries int
	err     error // why it ended
}

const hasEnded = "" // what a worker says that has ended

// pool has two workers do the orders, which are written when both have joined. The first one is killed in the middle of an order.
func pool(ctx context.Context, target, stream string, b *book, out io.Writer, write func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	all := make(chan said) // from the listeners, which end with ctx at the latest; nobody closes it
	var listeners sync.WaitGroup
	defer listeners.Wait()
	defer cancel() // kills who still works
	var workers []*worker
	for name, stuck := range []int{killedAt, 0} {
		w, err := start(ctx, name+1, "-connect", target, "-stream", stream, "-stuck", strconv.Itoa(stuck))
		if err != nil {
			return err
		}
		workers = append(workers, w)
		listeners.Go(func() { w.listen(ctx, all) })
	}
	for ready, living := 0, len(workers); living > 0; {
		var s said
		select {
		case s = <-all:
		case <-ctx.Done():
			return ctx.Err()
		}
		switch s.what {
		case saysReady:
			if ready++; ready < len(workers) {
				continue
			}
			if err := write(); err != nil {
				return err
			}
		case saysBegun:
			b.killed, s.by.killed = s.order, true
			if err := s.by.cmd.Process.Kill(); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(out, "worker %d, process %d, was killed in the middle of order %d\n", s.by.name, s.by.cmd.Process.Pid, s.order)
		case saysDone:
			if b.enter(s.order, entry{s.by.name, s.retries}); b.complete() {
				for _, w := range workers {
					_ = w.input.Close()
				}
			}
		case hasEnded:
			if living--; !s.by.killed && !b.complete() {
				return fmt.Errorf("worker %d ended before all was done: %w", s.by.name, s.err)
			}
		}
	}
	return nil
}

func start(ctx context.Context, name int, args ...string) (*worker, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	w := &worker{name: name, cmd: exec.CommandContext(ctx, self, append([]string{workerCommand}, args...)...)} //nolint:gosec // itself
	w.cmd.Stderr = os.Stderr
	if w.input, err = w.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if w.output, err = w.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	return w, w.cmd.Start()
}

// listen tells what the worker says, until it ends.
func (w *worker) listen(ctx context.Context, all chan<- said) {
	tell := func(s said) {
		s.by = w
		select {
		case all <- s:
		case <-ctx.Done():
		}
	}
	for lines := bufio.NewScanner(w.output); lines.Scan(); {
		var s said
		if _, err := fmt.Sscanf(lines.Text(), lineFormat, &s.what, &s.order, &s.retries); err == nil {
			tell(s)
		}
	}
	tell(said{what: hasEnded, err: w.cmd.Wait()})
}
