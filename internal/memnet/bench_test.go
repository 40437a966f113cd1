package memnet_test

import (
	"io"
	"strconv"
	"testing"

	"github.com/goeventstore/eventstore/internal/memnet"
)

func BenchmarkPingPong(b *testing.B) {
	x, y := memnet.Pipe()
	done := start(func() (int, error) {
		_, err := io.Copy(struct{ io.Writer }{y}, struct{ io.Reader }{y})
		return 0, err
	})
	p := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(x, p); err != nil {
			b.Fatal(err)
		}
	}
	_ = x.Close()
	<-done
	_ = y.Close()
}

func BenchmarkStream(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 64 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			x, y := memnet.Pipe()
			done := start(func() (int, error) {
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{y}, make([]byte, 64<<10))
				return int(n), err
			})
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := x.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			_ = x.Close()
			<-done
			_ = y.Close()
		})
	}
}
