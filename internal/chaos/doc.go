// Package chaos tests what the client promises while its connections break: every append is settled as it is told, a
// stream is one sequence that all clients agree on, and nothing is stored twice behind anybody's back.
//
// SEEDS says how many seeds the tests with plans run, SEED runs one of them. A seed fixes the plan, not the schedule: a
// test that failed is repeated with -count=100. Each checker is shown to catch a client that is broken on purpose.
package chaos
