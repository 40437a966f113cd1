module github.com/goeventstore/eventstore/bench/contend

go 1.25.0
