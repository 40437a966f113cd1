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

// account is what the read model knows of an account.
type account struct {
	Balance     int64 `json:"balance"`
	Deposits    int64 `json:"deposits"`
	Withdrawals int64 `json:"withdrawals"`
	Movements   int   `json:"movements"`
	Events      int   `json:"events"`
	Closed      bool  `json:"closed"`
}

func (a *account) apply(eventType string, m movement) {
	a.Events++
	switch eventType {
	case closed:
		a.Closed = true
	case deposited:
		a.Balance += m.Amount
		a.Deposits += m.Amount
		a.Movements++
	case withdrawn:
		a.Balance -= m.Amount
		a.Withdrawals += m.Amount
		a.Movements++
	}
}

// balances is the read model in memory: what every account holds.
type balances map[string]*account

// follow projects the events of all accounts until the last is in.
func (b balances) follow(ctx context.Context, client *eventstore.Client, p plan) error {
	var l *listener.Listener
	l, err := listener.New(client, listener.Config{Name: "balances", Stream: p.index()}, func(_ context.Context, e eventstore.ResolvedEvent) error {
		if p.isLast(e) {
			l.Stop()
		}
		var m movement
		if err := e.Event.Decode(&m); err != nil {
			return err
		}
		if b[m.Account] == nil {
			b[m.Account] = new(account)
		}
		b[m.Account].apply(e.Event.Type, m)
		return nil
	})
	if err != nil {
		return err
	}
	return l.Run(ctx)
}

func (b balances) accounts() (map[string]*account, error) { return b, nil }

// report prints the table, and checks that no money was lost on the way.
func report(out io.Writer, accounts map[string]*account, events int) error {
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "account\tmovements\tbalance\tstate\t")
	var all account
	for _, name := range slices.Sorted(maps.Keys(accounts)) {
		a := accounts[name]
		state := "open"
		if a.Closed {
			state = "closed"
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t\n", name, a.Movements, cents(a.Balance), state)
		all.Balance += a.Balance
		all.Deposits += a.Deposits
		all.Withdrawals += a.Withdrawals
		all.Events += a.Events
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if all.Balance != all.Deposits-all.Withdrawals || all.Events != events {
		return fmt.Errorf("the balances sum up to %s over %d events; deposits less withdrawals are %s, and %d events were written",
			cents(all.Balance), all.Events, cents(all.Deposits-all.Withdrawals), events)
	}
	_, err := fmt.Fprintf(out, "\nsum %s = deposits %s less withdrawals %s\n", cents(all.Balance), cents(all.Deposits), cents(all.Withdrawals))
	return err
}

func cents(n int64) string { return fmt.Sprintf("%d.%02d", n/100, n%100) }

func rate(n int, d time.Duration) string { return fmt.Sprintf("%.0f events/s", float64(n)/d.Seconds()) }
