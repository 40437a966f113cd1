// Package interop runs foreign clients against the embedded server: programs that other people wrote for the same
// protocol. It has only tests, and a module of its own, because they need other programs to run.
//
// The npm package node-eventstore-client needs node and npm. Without them its tests are skipped, but with
// EVENTSTORE_TEST_NODE=1, which CI sets, they fail then. They install the package once, into a folder of the user's
// cache. scenarios.js says what it does with the server and client.js runs that. To try one scenario by hand:
//
//	npm ci
//	node client.js --port 1113 'read pages'
//
// After a change of package.json, npm install brings package-lock.json in line; .npmrc keeps names of registries out of it.
//
// With EVENTSTORE_TEST_TCP, which names a real server, the same scenarios run against that one; .ci/run program runs them against
// the embedded server as a process, with its log on disk.
package interop
