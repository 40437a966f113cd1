// Package followers tests whoever follows a stream, or all of them, while everything fails: connections die at any byte, the
// server restarts, handlers fail, panic and stall, processes are stopped, killed and stand still. A seed fixes the plan of all
// that; what happened is a tape, which is compared with what the server has in the end.
//
// A Kind is one way to follow: a function that follows until its context ends, and tells the tape of it by what its Life gives
// it. The kinds of the root module are here. Those that need the drivers of databases are with these, in modules of their own.
package followers
