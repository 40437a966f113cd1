// Package conformance is one suite of tests for two servers: the embedded one, always, and the real one that the variable
// EVENTSTORE_TEST_TCP names (a whole target with credentials, such as tcp://admin:changeit@127.0.0.1:1113), when it is
// set. It is written against the client's API, and against raw frames where that cannot say what is meant. It assumes
// nothing about the database, which may be shared and used: every test makes up its own stream names. What a test expects
// is what a real server 4.1.4 does; where 3.9.4 does otherwise, that stands beside it.
//
// EVENTSTORE_TEST_CLUSTER names a real cluster, for the tests that want one, and EVENTSTORE_TEST_CLUSTER_CTL a program that ends and
// starts its nodes. With EVENTSTORE_TEST_COMPAT a run against a real server writes what came of it to testdata/compat, which is all
// that the README says of real servers.
//
// Beside it, TestReplay plays the recordings of real servers in testdata/captures to the embedded server and compares
// every answer field by field. The manifest there says what is played, and whether in virtual time, so that the answers,
// heartbeats and closes must come when they did; what is left out until which step of the work; and where the embedded
// server differs.
package conformance
