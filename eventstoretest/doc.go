// Package eventstoretest gives a test a server in one line.
//
//	func TestOpening(t *testing.T) {
//		srv := eventstoretest.Run(t)
//		client := srv.Client(t)
//		...
//		srv.Cut() // the client heals itself
//	}
//
// The server is the embedded one of package server, in the test's own process and gone with the test, or the real one
// that the variable EVENTSTORE_TEST_TCP names: the same test runs on both. With EVENTSTORE_TEST_DISK=1 the embedded server keeps its log on disk, in a folder of the test.
//
// # The proxy
//
// Between the clients and the server stands a proxy that knows the protocol's frames. Server.Cut breaks all connections,
// Server.Pause stops the traffic and leaves the connections, and Server.Intercept has a function of the test look at each
// frame and decide what becomes of it: a request or an answer that is lost, late, repeated, answered by somebody else,
// or the last thing that a connection carries.
//
//	// The server stores the events and the client never hears of it.
//	srv.Intercept(func(f *eventstoretest.Frame) eventstoretest.Fault {
//		if f.Command == messages.WriteEventsCompleted {
//			return eventstoretest.Cut
//		}
//		return eventstoretest.Pass
//	})
//
// NotReady, TooBusy and NotAuthenticated are the answers of a server that is not ready, has too much to do or does not know
// the credentials. Server.Refuse has new connections refused until Server.Accept, and Server.SlowReads makes the lines
// slow.
//
// Frames pass byte for byte as they came. While somebody intercepts, the proxy holds a frame until it has the whole of it;
// one that has begun to pass before Intercept was called passes unseen. So do bytes that are no frame, with all that
// follow them on their connection. When one side ends its stream the other side finds all that was
// sent before and then the end; a reset on one side is a reset on the other. Server.DirectURL leads past the proxy.
//
// # The same in each run
//
// Clock and IDs give the embedded server the times and the ids that it writes, so that a test can compare whole events.
//
// # TLS
//
// With TLS the clients speak it, to a server with a certificate of its own that Server.URL and Server.Client trust. All faults
// work as without it.
//
//	srv := eventstoretest.Run(t, eventstoretest.TLS())
//	client := srv.Client(t)
//
// # A cluster
//
// Cluster starts an embedded cluster: nodes with ports of their own that elect a leader, gossip and forward writes, in this process. They
// are killed, paused and cut off by number.
//
//	s := eventstoretest.Cluster(t, 3, eventstoretest.InMemory())
//	client := s.Client(t)
//	s.Kill(s.Leader()) // the client finds the next one
//
// # Virtual time
//
// With InMemory everything also works inside a bubble of testing/synctest, where hours of heartbeats and time-outs take
// milliseconds and happen at exactly their moment:
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := eventstoretest.Run(t, eventstoretest.InMemory())
//		client := srv.Client(t)
//		srv.Pause()
//		...
//	})
//
// When a test fails, the last frames that came to the proxy are in its log.
package eventstoretest
