package memnet_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

// ends are the two directions, so that each rule of deadlines is tested for Read and for Write: block starts a call
// that waits, set sets its deadline, partial is how many bytes it has moved when it is interrupted.
var ends = map[string]struct {
	op      string
	block   func(c *memnet.Conn) <-chan result
	set     func(c *memnet.Conn, at time.Time) error
	partial int
}{
	"read": {
		"read",
		func(c *memnet.Conn) <-chan result { return startRead(c, 10) },
		(*memnet.Conn).SetReadDeadline,
		0,
	},
	"write": {
		"write",
		func(c *memnet.Conn) <-chan result { return startWrite(c, 10) },
		(*memnet.Conn).SetWriteDeadline,
		7,
	},
	"both": {
		"read",
		func(c *memnet.Conn) <-chan result { return startRead(c, 10) },
		(*memnet.Conn).SetDeadline,
		0,
	},
}

func TestDeadlines(t *testing.T) {
	past := time.Unix(1, 0)
	for name, tc := range map[string]struct {
		before time.Duration // set before the call; 0 for none
		after  time.Duration // set one second into it; negative for one in the past, 0 for none
		want   time.Duration // from the start to the interruption
	}{
		"set before":               {before: 5 * time.Second, want: 5 * time.Second},
		"odd":                      {before: 1_234_567_891, want: 1_234_567_891},
		"set while blocked":        {after: 3 * time.Second, want: 4 * time.Second},
		"moved away while blocked": {before: 2 * time.Second, after: time.Hour, want: time.Hour + time.Second},
		"moved near while blocked": {before: time.Hour, after: time.Millisecond, want: time.Second + time.Millisecond},
		"interrupted at once":      {before: time.Hour, after: -1, want: time.Second},
		"interrupted without one":  {after: -1, want: time.Second},
		"interrupted by now":       {after: 0, before: time.Second, want: time.Second},
	} {
		for end, e := range ends {
			t.Run(name+"/"+end, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a, _ := pipe(t, memnet.WithBuffer(7))
					began := time.Now()
					if tc.before != 0 {
						require.NoError(t, e.set(a, began.Add(tc.before)))
					}
					call := e.block(a)
					if tc.after != 0 {
						time.Sleep(time.Second)
						at := past
						if tc.after > 0 {
							at = time.Now().Add(tc.after)
						}
						require.NoError(t, e.set(a, at))
					}
					r := <-call
					require.Equal(t, tc.want, time.Since(began))
					requireOpError(t, r.err, os.ErrDeadlineExceeded, e.op)
					require.Equal(t, e.partial, r.n)
				})
			})
		}
	}
}

func TestClearedDeadlineNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t, memnet.WithBuffer(1))
		require.NoError(t, a.SetDeadline(time.Now().Add(time.Minute)))
		r, w := startRead(a, 1), startWrite(a, 2)
		synctest.Wait()
		require.NoError(t, a.SetDeadline(time.Time{}))
		time.Sleep(24 * time.Hour)
		write(t, b, "x")
		read(t, b, 2)
		require.Equal(t, result{1, nil}, <-r)
		require.Equal(t, result{2, nil}, <-w)
	})
}

func TestConnIsUsableAfterADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t)
		write(t, b, "kept")
		require.NoError(t, a.SetReadDeadline(time.Now()))
		_, err := a.Read(make([]byte, 4))
		requireOpError(t, err, os.ErrDeadlineExceeded, "read") // although bytes are there, as on a socket
		write(t, a, "other direction")
		require.NoError(t, a.SetReadDeadline(time.Now().Add(time.Second)))
		require.Equal(t, "kept", read(t, a, 4))
	})
}

// At the very moment of a deadline its timer may not have run yet; the call must fail all the same.
func TestDeadlineIsOverAtItsMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 100 {
			a, b := memnet.Pipe()
			write(t, b, "x")
			require.NoError(t, a.SetDeadline(time.Now().Add(time.Second)))
			time.Sleep(time.Second)
			_, err := a.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			_, err = a.Write(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			require.NoError(t, a.Close())
			require.NoError(t, b.Close())
		}
	})
}

func TestFarDeadline(t *testing.T) {
	a, b := pipe(t)
	require.NoError(t, a.SetDeadline(time.Now().Add(1<<63-1)))
	require.NoError(t, b.SetDeadline(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)))
	write(t, a, "x")
	require.Equal(t, "x", read(t, b, 1))
}

// One writer is interrupted in its turn, one while it waits for its own: neither may keep the turn.
func TestInterruptedWritersLeaveTheTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t, memnet.WithBuffer(4))
		require.NoError(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		first, second := startWrite(a, 6), startWrite(a, 6)
		requireTimeout := func(r result, sum *int) {
			require.ErrorIs(t, r.err, os.ErrDeadlineExceeded)
			*sum += r.n
		}
		sum := 0
		requireTimeout(<-first, &sum)
		requireTimeout(<-second, &sum)
		require.Equal(t, 4, sum)
		require.NoError(t, a.SetWriteDeadline(time.Time{}))
		third := startWrite(a, 6)
		read(t, b, 10)
		require.Equal(t, result{6, nil}, <-third)
	})
}
