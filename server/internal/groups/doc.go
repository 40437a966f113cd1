// Package groups decides what becomes of the events of a persistent subscription (4.14): a state machine without
// goroutines, clocks, sockets or streams of its own. Whoever holds a Group gives it what happens, one thing at a time, and
// the group says through its Outputs, and through Wants, what is to be done.
//
// A group is in one of two states:
//
//	Behind  it reads the history of its stream, page by page; live events are kept aside, the newest of them only
//	Live    it has everything; a live event goes to the buffer at once
//
//	Behind -> Live    a page reaches an event that is kept aside, or the end of the stream
//	Live -> Behind    a live event comes and the buffer is full: it is read again later, with all that follow
//
// A page is wanted when the buffer has room for a whole batch, asked at each page, ack and nak (and, where a real server
// would wait for ever, at a tick): not when something is pushed, so that a window is filled batch by batch.
//
// A message, which is an event on its way, is in one of these states:
//
//	buffered     in the order of the stream
//	retrying     in the order of the numbers of the events that links lead to; goes before all that are buffered
//	outstanding  with a consumer, in one of its slots; or taken by somebody who has none
//	parking      being written to the parked stream
//
//	buffered, retrying -> outstanding    the strategy has a consumer with a free slot for it, or it is taken
//	outstanding -> gone                  ack, nak Skip, nak Stop
//	outstanding -> retrying              nak Retry or Unknown, time-out: with one more retry, unless it had all; consumer
//	                                     gone: with retry 1, whatever it was
//	outstanding -> parking               nak Park; or the last retry failed
//	parking -> gone                      it is written, or could not be for the sixth time
//
// The slot of a consumer is free again when the message is gone or retrying; an ack with the id of another subscription, such as
// one that comes late from who had the message before, takes the message and leaves the slot, until it is acked once more with
// the right one; when the consumer goes before that, the message is retrying again. A parked message that is replayed
// begins as retrying.
//
// The checkpoint is one below the lowest number that is not gone, or the highest that was sent. Replayed messages do not
// count: they have left the stream's order when they were parked.
package groups
