// Package cluster finds the node to dial. A client asks its Resolver before every attempt to connect, so that no address
// outlives its use: Static for one node, Gossip for a cluster that is known by some of its nodes or by a name in DNS.
//
// # Gossip
//
// Gossip asks one node after the other, over HTTP, for what it knows of the cluster, and picks the best member for its
// Preference: of the first answer that has one of the preferred kind, else of all that come within the time-out, since just after
// an election the new leader is the first to know. Who is asked: the seeds, what the DNS name resolves to at that moment, and
// the members of the last good answer, shuffled. Who is slow holds up nobody: the next is asked meanwhile.
//
// A member is never picked that is dead, a manager, shutting down, does not offer the kind of connection that is wanted
// (an advertised port 0), or is refused by Config.Translate. Both vocabularies are understood, Master and Slave of servers
// before 20.6 as well as Leader and Follower, and so are both sets of keys. What is unknown is tolerated: keys are ignored, and
// a member in an unknown state is the last resort.
//
// Among equals it stays with the one that it picked before, until Failed tells that the connection there did.
//
// With TLS the nodes are asked over HTTPS, else over HTTP. One is never tried in place of the other.
package cluster
