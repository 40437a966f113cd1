module github.com/goeventstore/eventstore/bench/gesclient

go 1.25.0

require (
	github.com/goeventstore/eventstore/bench/contend v0.0.0
	github.com/jdextraze/go-gesclient v0.4.1
	github.com/satori/go.uuid v0.0.0-20181028125025-b2ce2384e17b
)

require (
	github.com/golang/protobuf v0.0.0-20190109072247-347cf4a86c1c // indirect
	gopkg.in/check.v1 v1.0.0-20201130134442-10cb98267c6c // indirect
)

replace github.com/goeventstore/eventstore/bench/contend => ../contend
