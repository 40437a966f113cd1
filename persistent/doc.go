// Package persistent has the consumers of persistent subscriptions: groups, whose state is the server's, hand each event of a
// stream to one of their members, who acknowledges it or gives it back.
//
//	err := persistent.Create(ctx, client, "orders", "billing", persistent.DefaultSettings())
//	group, err := persistent.Join(ctx, client, persistent.Config{Stream: "orders", Group: "billing", Window: 64})
//	err = group.Run(ctx, 8, func(ctx context.Context, m *persistent.Message) error { ... })
//
// Every event is delivered at least once: what is not acknowledged in time, or was under way on a connection that was lost,
// comes again, to this member or another. Handlers must bear an event twice; its id is the same. A server older than 4.0 breaks
// this promise: it stores the first number that is not acknowledged yet, and goes on behind it when the group is loaded again,
// with its own start, with a new leader and with Update.
//
// What comes together is made ready together, and acks go out together: a message costs 0.06 allocations, as the case persistent of
// the folder bench tells, and may be kept. It shares its memory with its neighbours, so that what is kept for long is better a Clone.
//
// A Group is a state machine that Recv drives; it has no goroutine of its own, only timers for acks and delayed retries.
//
//	joining  asks for the group, on a new exchange with a new correlation id
//	joined   takes messages; acks and naks go out
//	ended    for ever
//
//	joining -> joined   confirmed
//	joining -> joining  the connection was lost, or nothing was answered; when it was joined before, also while the group has
//	                    no place free, as the server may not have noticed yet that the old connection is gone
//	joining -> ended    no such group, no access, wrong credentials; no place free at the first time; the attempts are spent
//	joined  -> joining  the connection was lost; the server dropped the member without a reason, which it does when the group is
//	                    updated or deleted and when the node stops to lead; more came than the window allows
//	joined  -> ended    no access, wrong credentials, an answer that is none
//	any     -> ended    Close, and the client's Close
//
// With each step back to joining, what was delivered is the server's again: messages that wait for Recv are dropped, acks that
// were not sent are too (the notice Lost counts them), and an ack or nak of an older message is refused with ErrStale. A deleted group
// is found out by joining again, which ends with ErrGroupNotFound; an updated one is joined.
package persistent
