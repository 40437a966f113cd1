package contend

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

// Main is the process of a contender: it reads the task, has connect make the load, and prints the result.
func Main(connect func(*Task) (Load, error)) error {
	var task Task
	if err := json.NewDecoder(os.Stdin).Decode(&task); err != nil {
		return err
	}
	load, err := connect(&task)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	result, err := task.Measure(load)
	if err := errors.Join(err, load.Close()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// Measure runs a load by the clock, or by the count.
func (t *Task) Measure(load Load) (r Result, err error) {
	if t.Count > 0 {
		r.Ops, err = load.Run(newTurn(t.Count))
		return r, err
	}
	turn := newTurn(t.Most / 5)
	time.AfterFunc(t.Warm, func() { turn.over.Store(true) })
	if r.Warm, err = load.Run(turn); err != nil {
		return r, fmt.Errorf("warming up: %w", err)
	}
	turn = newTurn(t.Most - t.Most/5)
	if t.InFlight == 1 && !t.Read {
		turn.times = make([]time.Duration, 0, 1<<20)
	}
	runtime.GC() // what the warm-up left is not of the measured part
	stop, err := StartProfile(t.Profile)
	if err != nil {
		return r, err
	}
	before, start := Used(), time.Now()
	time.AfterFunc(t.Run, func() { turn.over.Store(true) })
	r.Ops, err = load.Run(turn)
	r.Elapsed = time.Since(start)
	r.Cost = Used().Since(before)
	stop()
	if n := len(turn.times); n > 0 {
		slices.Sort(turn.times)
		r.P50 = turn.times[n/2]
	}
	return r, err
}

// StartProfile writes a CPU profile to the file until stop is called. With no file's name it does nothing.
func StartProfile(file string) (stop func(), err error) {
	if file == "" {
		return func() {}, nil
	}
	f, err := os.Create(file) //nolint:gosec // it is named by who runs the program
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = f.Close()
	}, nil
}

// Since returns what was used between two looks.
func (c Cost) Since(before Cost) Cost {
	return Cost{CPU: c.CPU - before.CPU, Allocs: c.Allocs - before.Allocs, Bytes: c.Bytes - before.Bytes}
}
