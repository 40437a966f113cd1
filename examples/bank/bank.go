package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/goeventstore/eventstore"
)

// The types of the events; their data is a movement.
const (
	opened    = "opened"
	deposited = "deposited"
	withdrawn = "withdrawn"
	closed    = "closed"
)

// movement is the data of every event. Amounts are in cents.
type movement struct {
	Account string `json:"account"`
	Amount  int64  `json:"amount,omitempty"`
}

// bank invents a fixed number of events that make sense: nobody overdraws, and a closed account is empty.
type bank struct {
	random  *rand.Rand
	left    int
	names   []string
	balance []int64
	// closing is the account that pays out its balance next, then closes; -1: none.
	closing int
}

const accounts = 10

func newBank(seed uint64, events int) *bank {
	return &bank{random: rand.New(rand.NewPCG(seed, 0)), left: events, closing: -1} // #nosec G404 -- the same numbers for the same seed
}

// next returns the next event, false when all were.
func (b *bank) next() (eventstore.EventData, bool) {
	if b.left == 0 {
		return eventstore.EventData{}, false
	}
	b.left--
	if len(b.names) < accounts {
		name := fmt.Sprintf("account-%02d", len(b.names)+1)
		b.names, b.balance = append(b.names, name), append(b.balance, 0)
		return eventstore.JSONEvent(opened, movement{Account: name}), true
	}
	if b.closing < 0 && b.left == 1 { // two events are left: the last account closes
		b.closing = len(b.names) - 1
	}
	if i := b.closing; i >= 0 {
		if amount := b.balance[i]; amount > 0 {
			return b.move(withdrawn, i, -amount), true
		}
		b.closing = -1
		return eventstore.JSONEvent(closed, movement{Account: b.names[i]}), true
	}
	i := b.random.IntN(len(b.names))
	if amount := 1 + b.random.Int64N(10_000); amount <= b.balance[i] && b.random.IntN(2) == 0 {
		return b.move(withdrawn, i, -amount), true
	}
	return b.move(deposited, i, 1+b.random.Int64N(10_000)), true
}

func (b *bank) move(eventType string, i int, change int64) eventstore.EventData {
	b.balance[i] += change
	return eventstore.JSONEvent(eventType, movement{Account: b.names[i], Amount: max(change, -change)})
}
