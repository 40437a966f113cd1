//go:build unix

package main

import (
	"runtime"
	"syscall"
	"time"
)

// cost is what a process has used so far, or between two looks.
type cost struct {
	CPU           time.Duration // user and system
	Allocs, Bytes uint64
}

// used returns what this process has used so far.
func used() cost {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // of this process it is always known
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return cost{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Allocs: m.Mallocs, Bytes: m.TotalAlloc}
}

func (c cost) since(before cost) cost {
	return cost{CPU: c.CPU - before.CPU, Allocs: c.Allocs - before.Allocs, Bytes: c.Bytes - before.Bytes}
}
