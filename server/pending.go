package server

import (
	"container/list"

	"github.com/goeventstore/eventstore/server/internal/store"
)

// maxTransactionBytes bounds what transactions hold that are not committed: that of the largest frame twice. Nothing ever
// ends a transaction that is not committed, so those that nobody has used for the longest time are forgotten.
const maxTransactionBytes = 128 << 20

// transactionSize is more than a transaction, or an event of one, takes beside its texts and bytes.
const transactionSize = 256

// transaction is what was started and can be committed.
type transaction struct {
	id       int64 // the position of the record that began it
	stream   string
	expected int64
	// events have their own positions in Prepare and, as Number, their place in the transaction.
	events []store.Record
	ended  bool // a commit was tried: what is written from then on is not part of it

	done        bool  // it is committed, and its events are those of the stream
	first, last int64 // with these numbers

	size int
	used *list.Element
}

// transactions are those that the server remembers. They are the writer's alone.
type transactions struct {
	limit int
	size  int
	byID  map[int64]*transaction
	used  list.List // the one that was used last is at the back

	touched []*transaction // by the batch at hand
}

func newTransactions(limit int) transactions {
	return transactions{limit: limit, byID: make(map[int64]*transaction)}
}

// find returns the transaction with this id, nil when there is none.
func (all *transactions) find(id int64) *transaction {
	t := all.byID[id]
	if t != nil {
		all.used.MoveToBack(t.used)
		all.touched = append(all.touched, t)
	}
	return t
}

// settle ends a batch. When that was not stored, nobody knows what its transactions hold: they are forgotten.
func (all *transactions) settle(stored bool) {
	for _, t := range all.touched {
		if !stored && all.byID[t.id] == t {
			all.forget(t)
		}
	}
	clear(all.touched)
	all.touched = all.touched[:0]
}

func (all *transactions) forget(t *transaction) {
	all.used.Remove(t.used)
	delete(all.byID, t.id)
	all.size -= t.size
	t.events = nil
}

func (all *transactions) add(t *transaction) {
	t.used = all.used.PushBack(t)
	all.byID[t.id] = t
	all.touched = append(all.touched, t)
	all.grow(t, transactionSize+len(t.stream))
}

// keep adds an event to a transaction.
func (all *transactions) keep(t *transaction, r store.Record) {
	t.events = append(t.events, r)
	all.grow(t, transactionSize+len(r.Type)+len(r.Encoded))
}

// committed frees what is in the log from now on.
func (all *transactions) committed(t *transaction, first, last int64) {
	t.done, t.first, t.last, t.events = true, first, last, nil
	all.grow(t, transactionSize+len(t.stream)-t.size)
}

// grow counts what a transaction holds and forgets others when it is too much, and at last the transaction itself.
func (all *transactions) grow(t *transaction, by int) {
	if all.byID[t.id] != t {
		return // forgotten while its events came
	}
	t.size += by
	all.size += by
	for all.size > all.limit {
		all.forget(all.used.Front().Value.(*transaction))
	}
}
