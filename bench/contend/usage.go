//go:build unix

package contend

import (
	"runtime"
	"syscall"
	"time"
)

// Used returns what this process has used so far.
func Used() Cost {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // of this process it is always known
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Cost{CPU: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Allocs: m.Mallocs, Bytes: m.TotalAlloc}
}
