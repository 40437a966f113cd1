package memnet_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
)

func TestReadReturnsWhatIsThere(t *testing.T) {
	a, b := pipe(t)
	write(t, a, "hel")
	write(t, a, "lo")
	require.Equal(t, 5, b.Buffered())

	p := make([]byte, 100)
	n, err := b.Read(p)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p[:n]))
	require.Zero(t, b.Buffered())
}

func TestBothEndsMayWriteBeforeEitherReads(t *testing.T) {
	a, b := pipe(t)
	write(t, a, "to b")
	write(t, b, "to a")
	require.Equal(t, "to b", read(t, b, 4))
	require.Equal(t, "to a", read(t, a, 4))
}

// TestEndings holds what each end sees after one of them ended the connection with bytes in flight: "sent" was written
// by a, "reply" by b, neither was read.
func TestEndings(t *testing.T) {
	const sent, reply = "sent", "reply"
	for name, tc := range map[string]struct {
		end          func(a, b *memnet.Conn) error
		aReads       string // before aReadErr
		bReads       string
		aRead, bRead error
		aWrite       error // nil: works
		bWrite       error
	}{
		"close": {
			end:   func(a, _ *memnet.Conn) error { return a.Close() },
			aRead: net.ErrClosed, aWrite: net.ErrClosed,
			bReads: sent, bRead: io.EOF, bWrite: syscall.EPIPE,
		},
		"half close": {
			end:    func(a, _ *memnet.Conn) error { return a.CloseWrite() },
			aReads: reply, aRead: os.ErrDeadlineExceeded, aWrite: syscall.EPIPE,
			bReads: sent, bRead: io.EOF,
		},
		"half close twice": {
			end: func(a, _ *memnet.Conn) error {
				_ = a.CloseWrite()
				return a.CloseWrite()
			},
			aReads: reply, aRead: os.ErrDeadlineExceeded, aWrite: syscall.EPIPE,
			bReads: sent, bRead: io.EOF,
		},
		"half close of both": {
			end: func(a, b *memnet.Conn) error {
				_ = a.CloseWrite()
				return b.CloseWrite()
			},
			aReads: reply, aRead: io.EOF, aWrite: syscall.EPIPE,
			bReads: sent, bRead: io.EOF, bWrite: syscall.EPIPE,
		},
		"reset": {
			end:   func(a, _ *memnet.Conn) error { a.Reset(); return nil },
			aRead: syscall.ECONNRESET, aWrite: syscall.ECONNRESET,
			bRead: syscall.ECONNRESET, bWrite: syscall.ECONNRESET,
		},
		"reset by the other end": {
			end:   func(_, b *memnet.Conn) error { b.Reset(); return nil },
			aRead: syscall.ECONNRESET, aWrite: syscall.ECONNRESET,
			bRead: syscall.ECONNRESET, bWrite: syscall.ECONNRESET,
		},
		"reset overtakes a close": {
			end:   func(a, _ *memnet.Conn) error { defer a.Reset(); return a.Close() },
			aRead: net.ErrClosed, aWrite: net.ErrClosed,
			bRead: syscall.ECONNRESET, bWrite: syscall.ECONNRESET,
		},
		"close after a reset": {
			end:   func(a, _ *memnet.Conn) error { a.Reset(); return a.Close() },
			aRead: net.ErrClosed, aWrite: net.ErrClosed,
			bRead: syscall.ECONNRESET, bWrite: syscall.ECONNRESET,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pipe(t)
				write(t, a, sent)
				write(t, b, reply)
				require.NoError(t, tc.end(a, b))

				check := func(c *memnet.Conn, reads string, readErr, writeErr error) {
					t.Helper()
					require.Equal(t, len(reads), c.Buffered())
					if errors.Is(readErr, os.ErrDeadlineExceeded) {
						require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Second)))
					}
					require.Equal(t, reads, read(t, c, len(reads)))
					for range 2 { // an end is there to stay
						n, err := c.Read(make([]byte, 1))
						require.Zero(t, n)
						if errors.Is(readErr, io.EOF) {
							require.Same(t, io.EOF, err, "readers compare with ==")
						} else {
							requireOpError(t, err, readErr, "read")
						}
						n, err = c.Write([]byte("x"))
						if writeErr == nil {
							require.NoError(t, err)
							continue
						}
						require.Zero(t, n)
						requireOpError(t, err, writeErr, "write")
					}
				}
				// An end that can still write goes last: what it writes is not what the other has to read.
				if tc.bWrite == nil {
					check(a, tc.aReads, tc.aRead, tc.aWrite)
					check(b, tc.bReads, tc.bRead, tc.bWrite)
					return
				}
				check(b, tc.bReads, tc.bRead, tc.bWrite)
				check(a, tc.aReads, tc.aRead, tc.aWrite)
			})
		})
	}
}

// TestBlockedCallsEnd blocks a Read and a Write on each end, then ends the connection in each way.
func TestBlockedCallsEnd(t *testing.T) {
	const size = 4
	for name, tc := range map[string]struct {
		end                          func(a, b *memnet.Conn)
		aRead, aWrite, bRead, bWrite error
	}{
		"close": {
			func(a, _ *memnet.Conn) { _ = a.Close() },
			net.ErrClosed, net.ErrClosed, io.EOF, syscall.EPIPE,
		},
		"reset": {
			func(a, _ *memnet.Conn) { a.Reset() },
			syscall.ECONNRESET, syscall.ECONNRESET, syscall.ECONNRESET, syscall.ECONNRESET,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := pipe(t, memnet.WithBuffer(size))
				aRead, bRead := startRead(a, 1), startRead(b, 1)
				synctest.Wait()
				tc.end(a, b)
				requireErr(t, <-aRead, 0, tc.aRead)
				requireErr(t, <-bRead, 0, tc.bRead)

				// Several writers: one in its turn with a part written, the others waiting for theirs.
				a, b = pipe(t, memnet.WithBuffer(size))
				aWrite, bWrite := startWrite(a, size+1), startWrite(b, size+1)
				synctest.Wait()
				aNext, bNext := startWrite(a, 1), startWrite(b, 1)
				synctest.Wait()
				tc.end(a, b)
				requireErr(t, <-aWrite, size, tc.aWrite)
				requireErr(t, <-bWrite, size, tc.bWrite)
				requireErr(t, <-aNext, 0, tc.aWrite)
				requireErr(t, <-bNext, 0, tc.bWrite)
			})
		})
	}
}

func requireErr(t *testing.T, r result, n int, target error) {
	t.Helper()
	require.ErrorIs(t, r.err, target)
	require.Equal(t, n, r.n)
}

func TestHalfCloseInterruptsABlockedWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t, memnet.WithBuffer(3))
		w := startWrite(a, 4)
		synctest.Wait()
		require.NoError(t, a.CloseWrite())
		requireErr(t, <-w, 3, syscall.EPIPE)
		read(t, b, 3)
		_, err := b.Read(make([]byte, 1))
		require.Same(t, io.EOF, err)
	})
}

func TestCloseTwice(t *testing.T) {
	a, _ := memnet.Pipe()
	require.NoError(t, a.Close())
	requireOpError(t, a.Close(), net.ErrClosed, "close")
	requireOpError(t, a.CloseWrite(), net.ErrClosed, "close")
	requireOpError(t, a.SetDeadline(time.Now()), net.ErrClosed, "set")
	requireOpError(t, a.SetWriteDeadline(time.Now()), net.ErrClosed, "set")
}

func TestWriteWaitsAtCapacityAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t, memnet.WithBuffer(1000))
		w := startWrite(a, 2500)
		for _, size := range []int{1, 499, 1000} { // any room is enough to go on
			synctest.Wait()
			require.Empty(t, w)
			require.Equal(t, 1000, b.Buffered())
			read(t, b, size)
		}
		require.Equal(t, result{2500, nil}, <-w)
		require.Equal(t, 1000, b.Buffered())
	})
}

func TestEmptyReadsAndWritesReturnAtOnce(t *testing.T) {
	a, b := pipe(t, memnet.WithBuffer(1))
	write(t, a, "x") // full towards b, empty towards a
	for _, f := range []func([]byte) (int, error){a.Read, b.Read, a.Write, b.Write} {
		n, err := f(nil)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	require.NoError(t, a.Close())
	_, err := a.Read(nil)
	requireOpError(t, err, net.ErrClosed, "read")
	_, err = a.Write(nil)
	requireOpError(t, err, net.ErrClosed, "write")
}

func TestOneWriteIsContiguous(t *testing.T) {
	const writers, each, size = 8, 50, 100
	a, b := pipe(t, memnet.WithBuffer(64)) // less than one write
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range each {
				if n, err := a.Write(bytes.Repeat([]byte{byte(i)}, size)); n != size || err != nil {
					t.Errorf("write: %d, %v", n, err)
				}
			}
		})
	}
	seen := map[byte]int{}
	for range writers * each {
		block := read(t, b, size)
		require.Equal(t, size, bytes.Count([]byte(block), []byte{block[0]}), "another write got in between")
		seen[block[0]]++
	}
	wg.Wait()
	for i := range writers {
		require.Equal(t, each, seen[byte(i)])
	}
}

func TestWritersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipe(t, memnet.WithBuffer(4))
		var writers []<-chan result
		for range 3 {
			writers = append(writers, startWrite(a, 6))
		}
		synctest.Wait() // one in its turn, two waiting for theirs
		read(t, b, 3*6)
		for _, w := range writers {
			require.Equal(t, result{6, nil}, <-w)
		}
	})
}

func TestTransfer(t *testing.T) {
	const total = 1_000_000
	for _, buffer := range []int{1, 777, 4096, 0} {
		rng := rand.New(rand.NewPCG(uint64(buffer), 1))
		data := make([]byte, total)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		if buffer == 1 {
			data = data[:total/20] // a wake-up for each byte
		}
		a, b := pipe(t, memnet.WithBuffer(buffer))
		w := start(func() (int, error) {
			rng := rand.New(rand.NewPCG(uint64(buffer), 2))
			sent := 0
			for sent < len(data) {
				n, err := a.Write(data[sent:min(len(data), sent+1+rng.IntN(10_000))])
				if sent += n; err != nil {
					return sent, err
				}
			}
			return sent, a.CloseWrite()
		})
		h, p, got := sha256.New(), make([]byte, 10_000), 0
		for {
			n, err := b.Read(p[:1+rng.IntN(len(p))])
			h.Write(p[:n])
			got += n
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			require.Positive(t, n)
		}
		require.Equal(t, result{len(data), nil}, <-w)
		require.Equal(t, len(data), got)
		want := sha256.Sum256(data)
		require.Equal(t, want[:], h.Sum(nil), "buffer %d", buffer)
	}
}

func TestSeveralReadersLoseNoByte(t *testing.T) {
	const total = 20_000
	a, b := pipe(t, memnet.WithBuffer(100))
	var readers []<-chan result
	for range 4 {
		readers = append(readers, start(func() (int, error) {
			n, err := io.Copy(io.Discard, struct{ io.Reader }{b})
			return int(n), err
		}))
	}
	for sent := 0; sent < total; sent += 40 {
		write(t, a, string(make([]byte, 40)))
	}
	require.NoError(t, a.CloseWrite())
	sum := 0
	for _, r := range readers {
		got := <-r
		require.NoError(t, got.err)
		sum += got.n
	}
	require.Equal(t, total, sum)
}

// TestRaces lets everything happen at once; it is for the race detector, and for a hang.
func TestRaces(*testing.T) {
	for i := range 200 {
		a, b := memnet.Pipe(memnet.WithBuffer(16))
		var wg sync.WaitGroup
		for _, c := range []*memnet.Conn{a, b} {
			wg.Go(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) })
			for range 2 {
				wg.Go(func() {
					for {
						if _, err := c.Write(make([]byte, 50)); err != nil {
							return
						}
					}
				})
			}
			wg.Go(func() {
				for range 20 {
					_ = c.SetDeadline(time.Now().Add(time.Hour))
					_ = c.Buffered()
				}
			})
		}
		wg.Go(func() {
			switch i % 4 {
			case 0:
				_ = a.Close()
			case 1:
				b.Reset()
			case 2:
				_ = a.CloseWrite()
				_ = b.Close()
			default:
				_ = a.SetDeadline(time.Unix(1, 0))
				_ = a.Close()
			}
		})
		wg.Wait()
		_ = a.Close()
		_ = b.Close()
	}
}
