// Package faultnet breaks connections at exact places: it wraps the dialling side of any network, in memory or TCP, and
// gives each connection the faults of a [Plan].
//
// A fault happens at a [Place]: a connection, a direction, and a byte of it, counted from the start of the stream or of
// a frame. Frames are found by their length prefix alone (four bytes, little-endian); what is no frame ends the search
// quietly, and only places counted in bytes are left. A fault happens when the byte at its place is about to pass, not
// as soon as the one in front of it has: a cut before the first frame from the server falls when the server has
// answered, which is when the answer is lost.
//
// What the two ends see, for a place with k bytes of its direction in front of it:
//
//	           the receiver                          the sender                         the other direction
//	Cut        reads k bytes, then the end           (client) EPIPE                     ends, what is unread is lost
//	Reset      at most k bytes, then ECONNRESET      ECONNRESET                         the same
//	HalfClose  reads k bytes, then the end           (client) EPIPE                     goes on
//	Delay      reads byte k later                    (client) Write waits               goes on
//	Stall      reads k bytes, then waits             (client) Write waits               goes on
//	Swallow    reads k bytes, then waits             Write succeeds, the bytes are lost goes on
//	Duplicate  reads the frame twice                 notices nothing                    goes on
//	Drip       reads one byte at a time              (client) Write waits               goes on
//
// The wrapper sits at the client, and everything happens inside the calls of the client: there are no goroutines, and
// no timers but in a call that waits. The server's end is the network's own. After a cut it finds the end of the stream
// at once, and its writes fail when the client, which has seen the end too, has closed its connection. While a
// direction to the server waits, the client's Write waits as it would for a peer with full buffers; Swallow is the line
// that is dead while the buffers still take what is written. Deadlines and Close end every wait.
//
// A connection works in the bubble of [testing/synctest] that dialled it, with exact times over a network in memory.
//
// Random makes a plan from a seed. Seeds and Report are the way chaos tests share: the environment variable SEEDS says
// how many seeds run, SEED runs one of them, and a test that fails prints its plan, what happened, and the command that
// repeats it. Record notes the frames of a clean run, so that a test can repeat the run once for every [Place] in it.
package faultnet
