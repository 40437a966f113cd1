// Package quorum is what the nodes of an embedded cluster agree on: which of them leads, and what is in the log. It is a
// simulation: all nodes are in one World, without goroutines, sockets and clocks of their own, and whoever has the World
// says what time it is. Who wants to know how a real cluster behaves finds its times and its states here, as they were
// recorded (testdata/captures/cluster-4.1.4); who wants to keep data safe wants a real cluster.
//
// # What a node has
//
// On its disk, which outlives a Kill: its log, a list of entries, each what the leader's writer stored at once; how much of
// it is known to be committed; and the last epoch that it has promised to take part in. In memory: its state, who it takes
// for the leader, and what it believes of every other node, which is its gossip.
//
// Nodes know of each other by messages alone. A message takes linkDelay; between two nodes they keep their order. It is lost
// when the two are cut apart or the receiver is down, and waits while the receiver is paused. That a node is gone is not
// known but noticed, some time later.
//
// # The log
//
//	leader    Propose appends to its own log and sends to all replicas that have subscribed
//	replica   appends what continues its log, and says how far it is
//	leader    what a majority of the voting nodes has is committed; replicas hear of that with what is sent next
//
// An entry of an earlier epoch counts only with one of the leader's own behind it. A replica that subscribes throws away what
// its log has behind the last entry that it has in common with the leader's: that is how what a leader accepted and did not
// spread is lost. When its server has taken up some of that, the node must begin anew (Host.Restart), as a real one does.
//
// # Elections
//
// A node that knows no living leader, and sees a majority, becomes a coordinator after a while. It asks all for a promise to
// take part in a new epoch and in none before; a node promises each epoch once. Of those that promised, when they are a
// majority, the one leads that has the newest log: by the epoch of the last entry, then by length, then who leads already,
// then by priority, then by instance. So what was committed is in the log of every leader. A leader that is there stays,
// which is what happens when a node joins, and only the epoch's number rises; and since it stays it goes on while it waits for that,
// where all others that have promised take nothing more of an earlier epoch.
//
//	Unknown      nobody is known to lead; also a leader that saw no majority for quorumGrace
//	PreMaster    elected, and what it has inherited is not committed yet
//	Master       takes writes
//	PreReplica   knows the leader and has not heard of it
//	CatchingUp   gets the log
//	Clone        has it; a node beyond the cluster's size stays there, and is counted in no majority
//	Slave        a node that counts, and has the log; ReadOnlyReplica is the same for one that is there to be read alone
//
//	Unknown -> PreMaster -> Master                       elected
//	any -> PreReplica -> CatchingUp (-> Clone) -> Slave  another was elected
//	Master -> Unknown                                    no majority for quorumGrace, or somebody leads a later epoch
//	Slave -> Unknown                                     the leader is gone, and no majority is seen for quorumGrace
//
// A Slave whose leader is gone stays one, and goes on naming it, until an election is done. One that has missed an election, and
// whose leader is still there as somebody else's replica, hears from the new one when that hears of it.
package quorum
