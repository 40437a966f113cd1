package groups

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// buckets is how many there are; a stream is in one of them by its hash.
const buckets = 1024

// pinned gives the events of one source to one consumer, as long as there are the same ones.
type pinned struct {
	source    func(e *Event) string
	consumers []*Consumer
	buckets   [buckets]bucket
	assigned  int
}

type bucket struct {
	consumer *Consumer // nil when it has none
	inFlight int
}

func (p *pinned) bucketOf(e *Event) *bucket { return &p.buckets[hash(p.source(e))%buckets] }

// add gives a new consumer its share of the buckets: those of the others with the least in flight.
func (p *pinned) add(c *Consumer) {
	p.consumers = append(p.consumers, c)
	share := (p.assigned + len(p.consumers) - 1) / len(p.consumers)
	for _, other := range p.consumers {
		if other == c || other.buckets <= share {
			continue
		}
		var theirs []*bucket
		for i := range p.buckets {
			if p.buckets[i].consumer == other {
				theirs = append(theirs, &p.buckets[i])
			}
		}
		slices.SortStableFunc(theirs, func(a, b *bucket) int { return cmp.Compare(a.inFlight, b.inFlight) })
		for _, b := range theirs[:other.buckets-share] {
			p.assign(b, c)
		}
	}
}

func (p *pinned) remove(c *Consumer) {
	p.consumers = slices.DeleteFunc(p.consumers, func(other *Consumer) bool { return other == c })
	for i := range p.buckets {
		if p.buckets[i].consumer == c {
			p.buckets[i] = bucket{}
			p.assigned--
		}
	}
	c.buckets = 0
}

func (p *pinned) assign(b *bucket, c *Consumer) {
	if b.consumer == nil {
		p.assigned++
	} else {
		b.consumer.buckets--
	}
	b.consumer = c
	c.buckets++
}

func (p *pinned) choose(e *Event) *Consumer {
	b := p.bucketOf(e)
	if b.consumer == nil {
		p.assign(b, slices.MinFunc(p.consumers, func(a, b *Consumer) int { return cmp.Compare(a.buckets, b.buckets) }))
	}
	if b.consumer.free() <= 0 {
		return nil
	}
	b.inFlight++
	return b.consumer
}

func (p *pinned) freed(c *Consumer, e *Event) {
	if b := p.bucketOf(e); b.consumer == c {
		b.inFlight--
	}
}

const typeLink = "$>"

// sourceStream is the stream of what the event is about; of a link that was not followed, or not to an event, the one that
// it names.
func sourceStream(e *Event) string {
	r := e.Subject()
	if r.Type != typeLink {
		return r.Stream
	}
	data := field(r.Encoded, 7)
	if i := bytes.IndexByte(data, '@'); i >= 0 {
		data = data[i+1:]
	}
	return string(data)
}

// correlation is the correlation id in the metadata, else the source stream.
func correlation(e *Event) string {
	var metadata struct {
		ID *string `json:"$correlationId"`
	}
	if json.Unmarshal(field(e.Subject().Encoded, 8), &metadata) == nil && metadata.ID != nil {
		return *metadata.ID
	}
	return sourceStream(e)
}

// field returns a field of bytes of an encoded event without decoding the rest.
func field(encoded []byte, wanted protowire.Number) []byte {
	for len(encoded) > 0 {
		number, typ, n := protowire.ConsumeTag(encoded)
		if n < 0 {
			return nil
		}
		encoded = encoded[n:]
		if number == wanted && typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(encoded)
			return value
		}
		if n = protowire.ConsumeFieldValue(number, typ, encoded); n < 0 {
			return nil
		}
		encoded = encoded[n:]
	}
	return nil
}
