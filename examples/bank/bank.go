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
	balance []int64
	// closing is the account that pays out its balance next, then closes; -1: none.
	closing int
}

const accounts = 10

func newBank(seed uint64, events int) *bank {
	return &bank{random: rand.New(rand.NewPCG(seed, 0)), left: events, closing: -1} // #nosec G404 -- the same numbers for the same seed
}

func accountName(i int) string { return fmt.Sprintf("account-%02d", i+1) }

// next returns the next event and whose it is. There are as many as newBank was told.
func (b *bank) next() (account string, e eventstore.EventData) {
	b.left--
	if i := len(b.balance); i < accounts {
		b.balance = append(b.balance, 0)
		return b.event(opened, i, 0)
	}
	if b.closing < 0 && b.left == 1 { // two events are left: the last account closes
		b.closing = len(b.balance) - 1
	}
	if i := b.closing; i >= 0 {
		if amount := b.balance[i]; amount > 0 {
			return b.event(withdrawn, i, -amount)
		}
		b.closing = -1
		return b.event(closed, i, 0)
	}
	i := b.random.IntN(len(b.balance))
	if amount := 1 + b.random.Int64N(10_000); amount <= b.balance[i] && b.random.IntN(2) == 0 {
		return b.event(withdrawn, i, -amount)
	}
	return b.event(deposited, i, 1+b.random.Int64N(10_000))
}

func (b *bank) event(eventType string, i int, change int64) (account string, e eventstore.EventData) {
	b.balance[i] += change
	account = accountName(i)
	return account, eventstore.JSONEvent(eventType, movement{Account: account, Amount: max(change, -change)})
}
