package messages_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/messages/pb"
)

// What the event of the vectors holds (protocol, 9.2), worked out by hand.
var (
	vectorID     = uuid.MustParse("33221100-5544-7766-8899-aabbccddeeff")
	vectorRecord = messages.EventRecord{
		Stream: "tv29b5", Number: 0, ID: vectorID, Type: "T", ContentType: 1, MetadataType: 1, Data: []byte("{}"), Metadata: []byte{},
		Created: 639308434350220850, CreatedEpoch: 1795246635022,
	}
)

const vectorRecordWire = "0a0674763239623510001a1000112233445566778899aabbccddeeff220154280130013a027b7d420048b2ccec9aa4f4d1ef08508ef0a6e89f34"

// bodyOf takes the body out of a whole frame.
func bodyOf(t *testing.T, wire string, want messages.Command) []byte {
	t.Helper()
	f, err := messages.ParseFrame(unhex(t, wire)[4:])
	require.NoError(t, err)
	require.Equal(t, want, f.Command)
	return f.Body
}

// golden requires of both forms that b is want. Decoding the slow form goes by Reply.Unmarshal, as it does in a client.
func golden[T any](t *testing.T, b []byte, want T, fast func([]byte) (T, error), slow proto.Message, collapse func() T) {
	t.Helper()
	got, err := fast(b)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, messages.Reply{Body: b}.Unmarshal(slow))
	require.Equal(t, want, collapse())
}

func TestGoldenAppeared(t *testing.T) {
	b := bodyOf(t, "5a000000c200000000000000000000000000000000030a460a3a"+vectorRecordWire+"18fdb0c04220fdb0c042", messages.StreamEventAppeared)
	want := messages.ResolvedEvent{HasEvent: true, Event: vectorRecord, HasPosition: true, Commit: 139466877, Prepare: 139466877}
	var slow pb.StreamEventAppeared
	golden(t, b, want, func(b []byte) (e messages.ResolvedEvent, err error) {
		err = messages.DecodeAppeared(b, nil, &e)
		return e, err
	}, &slow, func() messages.ResolvedEvent { return fromResolved(slow.GetEvent()) })
	require.Equal(t, time.Date(2026, 11, 21, 7, 37, 15, 22085000, time.UTC), want.Event.CreatedTime())
}

func TestGoldenAppendCompleted(t *testing.T) {
	tests := []struct {
		name, wire string
		want       messages.AppendCompleted
	}{
		{
			"success", "2400000083000000000000000000000000000000000408001800200028fdb0c04230fdb0c0423800",
			messages.AppendCompleted{HasPosition: true, Prepare: 139466877, Commit: 139466877, HasCurrent: true},
		},
		{
			"written before", "3000000083000000000000000000000000000000000508001800200028ffffffffffffffffff0130ffffffffffffffffff013800",
			messages.AppendCompleted{HasPosition: true, Prepare: -1, Commit: -1, HasCurrent: true},
		},
		{
			"wrong version", "520000008300000000000000000000000000000000060804121757726f6e672065787065637465642076657273696f6e2e" +
				"1880808080f8ffffffff012080808080f8ffffffff012880808080f8ffffffff0130003800",
			messages.AppendCompleted{
				Result: messages.WrongExpectedVersion, Message: "Wrong expected version.",
				First: messages.FailedNumber, Last: messages.FailedNumber, HasPosition: true, Prepare: messages.FailedNumber, HasCurrent: true,
			},
		},
		{"zeros left out", "120000008300000000000000000000000000000000ff", messages.AppendCompleted{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slow pb.WriteEventsCompleted
			golden(t, bodyOf(t, tt.wire, messages.WriteEventsCompleted), tt.want, func(b []byte) (m messages.AppendCompleted, err error) {
				err = m.Decode(b)
				return m, err
			}, &slow, func() messages.AppendCompleted { return fromAppendCompleted(&slow) })
		})
	}
}

func TestGoldenEventReadCompleted(t *testing.T) {
	tests := []struct {
		name, wire string
		want       messages.EventReadCompleted
	}{
		{
			"there", "52000000b100000000000000000000000000000000070800123c0a3a" + vectorRecordWire,
			messages.EventReadCompleted{Event: messages.ResolvedEvent{HasEvent: true, Event: vectorRecord}},
		},
		{
			"no such number", "16000000b1000000000000000000000000000000000808011200",
			messages.EventReadCompleted{Result: messages.ReadEventNotFound},
		},
		{
			"no such stream", "16000000b1000000000000000000000000000000000908021200",
			messages.EventReadCompleted{Result: messages.ReadEventNoStream},
		},
		{"zeros left out", "12000000b1000000000000000000000000000000000a", messages.EventReadCompleted{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slow pb.ReadEventCompleted
			golden(t, bodyOf(t, tt.wire, messages.ReadEventCompleted), tt.want, func(b []byte) (m messages.EventReadCompleted, err error) {
				err = m.Decode(b, new(messages.Names))
				return m, err
			}, &slow, func() messages.EventReadCompleted { return fromEventReadCompleted(&slow) })
		})
	}
}

func TestGoldenPage(t *testing.T) {
	one := []messages.ResolvedEvent{{HasEvent: true, Event: vectorRecord}}
	tests := []struct {
		name, wire string
		command    messages.Command
		want       page
	}{
		{
			"forward", "5f000000b3000000000000000000000000000000000a0a3c0a3a" + vectorRecordWire + "100018012000280130bab4c0423a00",
			messages.ReadStreamEventsForwardCompleted,
			page{Next: 1, EndOfStream: true, LastCommit: 139467322, Count: 1, Events: one},
		},
		{
			"no stream", "33000000b3000000000000000000000000000000000b100118ffffffffffffffffff0120ffffffffffffffffff01280130bab4c0423a00",
			messages.ReadStreamEventsForwardCompleted,
			page{Result: messages.ReadStreamNoStream, Next: -1, Last: -1, EndOfStream: true, LastCommit: 139467322},
		},
		{
			"backward", "68000000b5000000000000000000000000000000000c0a3c0a3a" + vectorRecordWire + "100018ffffffffffffffffff012000280130bab4c0423a00",
			messages.ReadStreamEventsBackwardCompleted,
			page{Next: -1, EndOfStream: true, LastCommit: 139467322, Count: 1, Events: one},
		},
		{"zeros left out", "12000000b5000000000000000000000000000000000d", messages.ReadStreamEventsBackwardCompleted, page{}},
		// Only the link came: field 1, which the protocol requires, is missing.
		{
			"unresolved link", "16000000b3000000000000000000000000000000000e 0a021200", messages.ReadStreamEventsForwardCompleted,
			page{Count: 1, Events: []messages.ResolvedEvent{{HasLink: true}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slow pb.ReadStreamEventsCompleted
			golden(t, bodyOf(t, tt.wire, tt.command), tt.want, func(b []byte) (page, error) { return decodePage(b, nil) },
				&slow, func() page { return fromPage(&slow) })
		})
	}
}

// allPageWire is a page with an event, its link resolved, and a link without a target.
const allPageWire = "08f21710f217" +
	"1a9c010a450a0c612d742d353761356632316510011a1009f09ce9d13dc74206372a0858a08d74220174280130013a077b2261223a317d420048d0dab1f199f6d1ef08508fb2b9eb9f34" +
	"124d0a0c612d6c2d323030383466373210001a10094d0414db0f1914ab682e0f7e3c2b482202243e280030003a0e3140612d742d3537613566323165420048ced6b2f199f6d1ef085091b2b9eb9f3418e01820e018" +
	"1a55124d0a0c612d6c2d323030383466373210011a101a6b2af457899822dfb433ff8203ba3d2202243e280030003a0e3940612d742d3537613566323165420048a0d8b2f199f6d1ef085091b2b9eb9f3418d61920d619" +
	"20cc1a2800"

func TestGoldenAllPage(t *testing.T) {
	target := messages.EventRecord{
		Stream: "a-t-57a5f21e", Number: 1, ID: uuid.MustParse("e99cf009-3dd1-42c7-0637-2a0858a08d74"), Type: "t", ContentType: 1,
		MetadataType: 1, Data: []byte(`{"a":1}`), Metadata: []byte{}, Created: 639308500298394960, CreatedEpoch: 1795253229839,
	}
	link := messages.EventRecord{
		Stream: "a-l-20084f72", Number: 0, ID: uuid.MustParse("14044d09-0fdb-1419-ab68-2e0f7e3c2b48"), Type: "$>",
		Data: []byte("1@a-t-57a5f21e"), Metadata: []byte{}, Created: 639308500298410830, CreatedEpoch: 1795253229841,
	}
	lost := link
	lost.Number, lost.ID, lost.Data = 1, uuid.MustParse("f42a6b1a-8957-2298-dfb4-33ff8203ba3d"), []byte("9@a-t-57a5f21e")
	lost.Created = 639308500298411040
	tests := []struct {
		name, wire string
		want       allPage
	}{
		{"resolved", allPageWire, allPage{
			Commit: 3058, Prepare: 3058, NextCommit: 3404, Count: 2, Events: []messages.ResolvedEvent{
				{HasEvent: true, Event: target, HasLink: true, Link: link, HasPosition: true, Commit: 3168, Prepare: 3168},
				{HasLink: true, Link: lost, HasPosition: true, Commit: 3286, Prepare: 3286},
			},
		}},
		{"the end", "08be1110be1120be1128be11", allPage{Commit: 2238, Prepare: 2238, NextCommit: 2238, NextPrepare: 2238}},
		{"denied", "0800100020ffffffffffffffffff0128ffffffffffffffffff013003", allPage{
			NextCommit: -1, NextPrepare: -1, Result: messages.ReadAllAccessDenied,
		}},
		{"refused", "08ffffffffffffffffff01100020ffffffffffffffffff0128ffffffffffffffffff0130023a11496e76616c696420706f736974696f6e2e", allPage{
			Commit: -1, NextCommit: -1, NextPrepare: -1, Result: messages.ReadAllError, Error: "Invalid position.",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var slow pb.ReadAllEventsCompleted
			golden(t, unhex(t, tt.wire), tt.want, func(b []byte) (allPage, error) { return decodeAllPage(b, nil) },
				&slow, func() allPage { return fromAllPage(&slow) })
			require.Equal(t, unhex(t, tt.wire), tt.want.appendTo(nil), "as a real server wrote it")
		})
	}
}

func TestGoldenRequests(t *testing.T) {
	t.Run("write", func(t *testing.T) {
		b := bodyOf(t, "3f0000008200000000000000000000000000000000060a0674763239623510071a1f0a100f0e0d0c0b0a09080706050403020100"+
			"120154180120002a027b7d32002001", messages.WriteEvents)
		var slow pb.WriteEvents
		golden(t, b, messages.Append{Stream: "tv29b5", Expected: 7, RequireLeader: true, Events: []messages.NewEvent{{
			ID: uuid.MustParse("0c0d0e0f-0a0b-0809-0706-050403020100"), Type: "T", ContentType: 1, Data: []byte("{}"), Metadata: []byte{},
		}}}, func(b []byte) (m messages.Append, err error) {
			err = m.Decode(b, nil)
			return m, err
		}, &slow, func() messages.Append { return fromAppend(&slow) })
	})
	t.Run("read event", func(t *testing.T) {
		b := bodyOf(t, "20000000b000000000000000000000000000000000070a06747632396235100018002001", messages.ReadEvent)
		var slow pb.ReadEvent
		golden(t, b, messages.EventRead{Stream: "tv29b5", RequireLeader: true}, func(b []byte) (m messages.EventRead, err error) {
			err = m.Decode(b, nil)
			return m, err
		}, &slow, func() messages.EventRead { return fromEventRead(&slow) })
	})
	t.Run("read stream", func(t *testing.T) {
		b := bodyOf(t, "2b000000b4000000000000000000000000000000000c0a0674763239623510ffffffffffffffffff01180a20002801",
			messages.ReadStreamEventsBackward)
		var slow pb.ReadStreamEvents
		golden(t, b, messages.StreamRead{Stream: "tv29b5", From: -1, Count: 10, RequireLeader: true}, func(b []byte) (m messages.StreamRead, err error) {
			err = m.Decode(b, nil)
			return m, err
		}, &slow, func() messages.StreamRead { return fromStreamRead(&slow) })
	})
	t.Run("read all", func(t *testing.T) {
		b := bodyOf(t, "3d000000b8010000000000000000000000000000000d0561646d696e086368616e67656974"+
			"08ffffffffffffffffff0110ffffffffffffffffff01180120002801", messages.ReadAllEventsBackward)
		var slow pb.ReadAllEvents
		golden(t, b, messages.AllRead{Commit: -1, Prepare: -1, Count: 1, RequireLeader: true}, func(b []byte) (m messages.AllRead, err error) {
			err = m.Decode(b)
			return m, err
		}, &slow, func() messages.AllRead { return fromAllRead(&slow) })
	})
}

// A server encodes these; a real one wrote the same bytes.
func TestGoldenAnswersOfAServer(t *testing.T) {
	record := vectorRecord.AppendTo(nil)
	require.Equal(t, unhex(t, vectorRecordWire), record)
	require.Equal(t, unhex(t, "0a460a3a"+vectorRecordWire+"18fdb0c04220fdb0c042"), messages.AppendAppeared(nil, record, nil, 139466877, 139466877))
	require.Equal(t, unhex(t, "0800123c0a3a"+vectorRecordWire), messages.AppendEventRead(nil, messages.ReadEventSuccess, record, nil, ""))
	require.Equal(t, unhex(t, "08021200"), messages.AppendEventRead(nil, messages.ReadEventNoStream, nil, nil, ""))
	p := messages.StreamPage{Next: -1, EndOfStream: true, LastCommit: 139467322}
	require.Equal(t, unhex(t, "0a3c0a3a"+vectorRecordWire+"100018ffffffffffffffffff012000280130bab4c0423a00"),
		p.AppendTo(messages.AppendIndexed(nil, 1, record, nil)))
}

// Deliveries of a real server.
func TestGoldenPersistentEvent(t *testing.T) {
	tests := []struct {
		name, wire  string
		event, link string // number@stream, id and type of each
		retries     int32
	}{
		{
			"the first time", "0a470a450a0c702d632d306462373264666410001a106ca3e0f27324321706457c61eabe7860220174280130013a077b2269223a307d420048d29ca1" +
				"ba8df6d1ef08509b83a5eb9f341000",
			"0@p-c-0db72dfd f2e0a36c-2473-1732-0645-7c61eabe7860 t", "", 0,
		},
		{
			"again", "0a470a450a0c702d632d313431383731613510001a101ad0b4c8f5f5859dfbfccd0bcdcb592d220174280130013a077b2269223a307d420048dcade3" +
				"f68df6d1ef0850aee6a5eb9f341001",
			"0@p-c-141871a5 c8b4d01a-f5f5-9d85-fbfc-cd0bcdcb592d t", "", 1,
		},
		{
			"a link", "0a9a010a470a0e702d7372632d636137623562393110001a1074a58c81e368baf1ab247171e08c57e4220174280130013a077b2269223a307d420048" +
				"90a999a78ff6d1ef0850b587a8eb9f34124f0a0c702d6c2d333237343066636110001a1014eb7b5a205be4ec7263ba2ab3f43d0a2202243e28003000" +
				"3a103040702d7372632d6361376235623931420048e09c9fa78ff6d1ef0850be87a8eb9f341000",
			"0@p-src-ca7b5b91 818ca574-68e3-f1ba-ab24-7171e08c57e4 t", "0@p-l-32740fca 5a7beb14-5b20-ece4-7263-ba2ab3f43d0a $>", 0,
		},
		{
			"a link without a target", "0a5412520a0c702d6c2d393036353334353410021a10d9d5e38c99a612445b038916084cf3432202243e280030003a133740702d7461726765742d62" +
				"326632306431644200488a95c1b48ff6d1ef08509c9da8eb9f341000",
			"", "2@p-l-90653454 8ce3d5d9-a699-4412-5b03-8916084cf343 $>", 0,
		},
		{
			"parked and replayed", "0ac3020a450a0c6b2d702d343332343064303710041a103d92c00bf3954d8d1d39a07508537205220174280130013a077b2269223a347d420048a0f5" +
				"c0a299f6d1ef0850f0b0b8eb9f3412f9010a2e2470657273697374656e74737562736372697074696f6e2d6b2d702d34333234306430373a3a672d70" +
				"61726b656410031a101bb77c58a21f0441a7356ef1f3426a292202243e280030003a0e34406b2d702d34333234306430374289017b0a202022616464" +
				"6564223a2022323032362d31312d32315430393a32363a35342e3632353439322b30303a3030222c0a202022726561736f6e223a2022436c69656e74" +
				"206578706c696369746c79204e414b276564206d6573736167652e5c6e616761696e222c0a202022737562736372697074696f6e4576656e744e756d" +
				"626572223a20320a7d48e097eca899f6d1ef0850a2bbb8eb9f341001",
			"4@k-p-43240d07 0bc0923d-95f3-8d4d-1d39-a07508537205 t", "3@$persistentsubscription-k-p-43240d07::g-parked 587cb71b-1fa2-4104-a735-6ef1f3426a29 $>", 1,
		},
	}
	told := func(there bool, e messages.EventRecord) string {
		if !there {
			return ""
		}
		return fmt.Sprintf("%d@%s %s %s", e.Number, e.Stream, e.ID, e.Type)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := unhex(t, tt.wire)
			var m messages.PersistentEvent
			require.NoError(t, m.Decode(b, nil))
			require.Equal(t, tt.event, told(m.Event.HasEvent, m.Event.Event))
			require.Equal(t, tt.link, told(m.Event.HasLink, m.Event.Link))
			require.Equal(t, tt.retries, m.Retries)
			var slow pb.PersistentSubscriptionStreamEventAppeared
			require.NoError(t, messages.Reply{Body: b}.Unmarshal(&slow))
			require.Equal(t, m, fromPersistentEvent(&slow))
			event, link := records(&m.Event)
			require.Equal(t, b, messages.AppendPersistentEvent(nil, event, link, m.Retries), "as a real server wrote it")
		})
	}
}

// A real server took these.
func TestGoldenPersistentAcks(t *testing.T) {
	t.Run("ack", func(t *testing.T) {
		b := unhex(t, "0a0f702d632d30646237326466643a3a6712102bae3a4684ebfdf6084025634b53f9ec1210fd52ca4b1824378b2ae8de2163"+
			"9c2af5")
		want := messages.PersistentAck{Subscription: "p-c-0db72dfd::g", IDs: []uuid.UUID{
			uuid.MustParse("463aae2b-eb84-f6fd-0840-25634b53f9ec"),
			uuid.MustParse("4bca52fd-2418-8b37-2ae8-de21639c2af5"),
		}}
		var slow pb.PersistentSubscriptionAckEvents
		golden(t, b, want, func(b []byte) (m messages.PersistentAck, err error) {
			err = m.Decode(b, nil)
			return m, err
		}, &slow, func() messages.PersistentAck { return fromPersistentAck(&slow) })
		wrote, err := want.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, b, wrote)
	})
	t.Run("nak", func(t *testing.T) {
		b := unhex(t, "0a0f702d632d35336462643235323a3a671210211d42f0e19ecbb15e1ed86dab7913c51210a4b234fec00ef319c8c56c38cb"+
			"25300b1a0374776f2001")
		want := messages.PersistentNak{Subscription: "p-c-53dbd252::g", Message: "two", Action: messages.NakPark, IDs: []uuid.UUID{
			uuid.MustParse("f0421d21-9ee1-b1cb-5e1e-d86dab7913c5"),
			uuid.MustParse("fe34b2a4-0ec0-19f3-c8c5-6c38cb25300b"),
		}}
		var slow pb.PersistentSubscriptionNakEvents
		golden(t, b, want, func(b []byte) (m messages.PersistentNak, err error) {
			err = m.Decode(b, nil)
			return m, err
		}, &slow, func() messages.PersistentNak { return fromPersistentNak(&slow) })
		wrote, err := want.AppendTo(nil)
		require.NoError(t, err)
		require.Equal(t, b, wrote)
	})
}
