// Package memnet is a TCP-like network that exists only in this process: listeners, dials and buffered connections
// without a socket.
//
// It is not [net.Pipe], whose Write returns only when the peer has read every byte. Nothing is ever in flight on such a
// pipe, and so the states where network code goes wrong cannot be reached on it: bytes that were sent and never read,
// a request that is lost although its write succeeded, a close or a reset that overtakes unread data, a slow reader
// that holds its peer back only once a buffer is full, two ends that write at the same time before either reads.
// Here each direction is a bounded buffer, as in a kernel.
//
// It works in a [testing/synctest] bubble. It starts no goroutines, every wait is on a [sync.Cond] or on a channel of
// one listener, and no lock is held across a wait, so a blocked Read, Write, Accept or Dial lets virtual time go on.
// A connection and a listener must be used in the bubble that made them; a Network may be shared.
//
// Like TCP, a connection has no message boundaries, and errors are [*net.OpError] values that wrap what the kernel
// would have said. Unlike TCP, everything is immediate: bytes are at the other end when Write returns, and a write to a
// closed peer fails at once and not one round trip later.
package memnet
