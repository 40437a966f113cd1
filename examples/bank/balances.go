package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/listener"
)

// balances is the read model: what every account holds.
type balances struct {
	accounts    map[string]*account
	deposits    int64
	withdrawals int64
	events      int64
}

type account struct {
	balance   int64
	movements int
	closed    bool
}

func newBalances() *balances { return &balances{accounts: make(map[string]*account)} }

// follow projects the stream until it has seen as many events as there will be.
func (b *balances) follow(ctx context.Context, client *eventstore.Client, stream string, events int64) error {
	var l *listener.Listener
	l, err := listener.New(client, listener.Config{Name: "balances", Stream: stream}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		if err := b.apply(e.Event); err != nil {
			return err
		}
		if b.events == events {
			l.Stop()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

func (b *balances) apply(e *eventstore.Event) error {
	var m movement
	if err := e.Decode(&m); err != nil {
		return err
	}
	b.events++
	a := b.accounts[m.Account]
	if a == nil {
		a = new(account)
		b.accounts[m.Account] = a
	}
	switch e.Type {
	case opened:
	case closed:
		a.closed = true
	case deposited:
		a.balance += m.Amount
		b.deposits += m.Amount
		a.movements++
	case withdrawn:
		a.balance -= m.Amount
		b.withdrawals += m.Amount
		a.movements++
	}
	return nil
}

// report prints the table and the speed, and checks that no money was lost on the way.
func (b *balances) report(out io.Writer, events int, wrote, projected time.Duration) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "account\tmovements\tbalance\tstate\t")
	sum := int64(0)
	for _, name := range slices.Sorted(maps.Keys(b.accounts)) {
		a := b.accounts[name]
		state := "open"
		if a.closed {
			state = "closed"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t\n", name, a.movements, cents(a.balance), state)
		sum += a.balance
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if sum != b.deposits-b.withdrawals || b.events != int64(events) {
		return fmt.Errorf("the balances sum up to %s over %d events; deposits less withdrawals are %s, and %d events were written",
			cents(sum), b.events, cents(b.deposits-b.withdrawals), events)
	}
	_, err := fmt.Fprintf(out, "\nsum %s = deposits %s less withdrawals %s\nwrote %d events in %v (%s), projected in %v (%s)\n",
		cents(sum), cents(b.deposits), cents(b.withdrawals),
		events, wrote.Round(time.Millisecond), rate(events, wrote), projected.Round(time.Millisecond), rate(events, projected))
	return err
}

func cents(n int64) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }

func rate(n int, d time.Duration) string { return fmt.Sprintf("%.0f events/s", float64(n)/d.Seconds()) }
