package messages_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

const pageEvents = 500

// perEvent reports the time of one event, of n that each operation handles.
func perEvent(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/event")
}

func BenchmarkEncodeAppend(b *testing.B) {
	m := sampleAppend(1, 256)
	b.Run("fast", func(b *testing.B) {
		buf := make([]byte, 0, 1<<10)
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = m.AppendTo(buf[:0])
		}
		b.SetBytes(int64(len(buf)))
	})
	b.Run("pb", func(b *testing.B) { // a message made for each request, as a client does
		buf := make([]byte, 0, 1<<10)
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = proto.MarshalOptions{}.MarshalAppend(buf[:0], toAppend(m))
		}
		b.SetBytes(int64(len(buf)))
	})
}

func BenchmarkDecodeAppendCompleted(b *testing.B) {
	body, err := sampleReply.AppendTo(nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("fast", func(b *testing.B) {
		var m messages.AppendCompleted
		b.ReportAllocs()
		for b.Loop() {
			if err := m.Decode(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("pb", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := (messages.Reply{Body: body}).Unmarshal(new(pb.WriteEventsCompleted)); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecodePage(b *testing.B) {
	body := samplePage(pageEvents, 256)
	for name, names := range map[string]*messages.Names{"fast": new(messages.Names), "fast without Names": nil} {
		b.Run(name, func(b *testing.B) {
			var m messages.StreamPage
			count := 0
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Decode(body); err != nil {
					b.Fatal(err)
				}
				err := m.Each(names, func(*messages.ResolvedEvent) bool {
					count++
					return true
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			if count%pageEvents != 0 {
				b.Fatal(count)
			}
			perEvent(b, pageEvents)
		})
	}
	b.Run("pb", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var m pb.ReadStreamEventsCompleted
			if err := (messages.Reply{Body: body}).Unmarshal(&m); err != nil {
				b.Fatal(err)
			}
			if len(m.GetEvents()) != pageEvents {
				b.Fatal(len(m.GetEvents()))
			}
		}
		perEvent(b, pageEvents)
	})
}

func BenchmarkDecodeAppeared(b *testing.B) {
	record := sampleRecord(7, 256)
	body := messages.AppendAppeared(nil, record.AppendTo(nil), nil, 139466877, 139466877)
	var names messages.Names
	var e messages.ResolvedEvent
	b.ReportAllocs()
	for b.Loop() {
		if err := messages.DecodeAppeared(body, &names, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	m := sampleAppend(1, 256)
	credentials, err := messages.AppendCredentials(nil, "admin", "changeit")
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 0, 1<<10)
	b.ReportAllocs()
	for b.Loop() {
		if buf, err = messages.AppendFrame(buf[:0], messages.ID{1}, credentials, m); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkReader cuts replies to appends out of a stream that never waits.
func BenchmarkReader(b *testing.B) {
	var wire []byte
	for i := range 1000 {
		var err error
		if wire, err = messages.AppendFrame(wire, messages.ID{byte(i)}, nil, sampleReply); err != nil {
			b.Fatal(err)
		}
	}
	r := messages.NewReader(&endless{b: wire}, 64<<10)
	b.SetBytes(int64(len(wire) / 1000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Next(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNames(b *testing.B) {
	var names messages.Names
	name := []byte("account-00001")
	b.ReportAllocs()
	for b.Loop() {
		names.String(name)
	}
}
