// Package admin does over HTTP what the TCP protocol has no requests for: users, the list and the statistics of persistent
// subscriptions, parked messages, projections, scavenges, and what a node says of itself.
//
// An Admin is made for a target of a client, with the client's options: its credentials, its TLS configuration, its dialer and
// its time limit are used here too. A target tcp://host:1113 or tls://host:1113 has its HTTP side on port 2113 of the same
// host; any other port is named by a target http://host:port or https://host:port. Targets of a cluster, discover:// and gossip://, name the
// HTTP side themselves: the first node that is reached is asked, and passes on what only the leader can do.
//
// Requests are sent once, and each on a connection of its own, so that there is nothing to close. Answers are bounded. A redirect is an
// error and is never followed, so that no credentials go to another host.
package admin
