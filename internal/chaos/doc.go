// Package chaos tests what the client promises while its connections break: every append is settled as it is told, a
// stream is one sequence that all clients agree on, and nothing is stored twice behind anybody's back. For groups it tests
// both sides: what the server sends and gets is listened to behind the lines that break, and is held to the protocol;
// what the members hand out and send is held to what they got and what their users did.
//
// SEEDS says how many seeds the tests with plans run, SEED runs one of them. A seed fixes the plan, not the schedule: a
// test that failed is repeated with -count=100. Each checker is shown to catch a client that is broken on purpose,
// that of groups a broken server too.
package chaos
