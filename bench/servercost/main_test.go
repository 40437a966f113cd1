package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/bench/contend"
)

// Every request of the load is one that both servers answer with a success: load.check looks.
func TestLoads(t *testing.T) {
	for _, c := range cases {
		for _, name := range servers {
			t.Run(c.Name+", "+name, func(t *testing.T) {
				c.Ops = 3*c.InFlight + 1
				s, err := c.overMemory(name)
				require.NoError(t, err)
				require.Equal(t, c.Ops, s.Ops)
				require.Positive(t, s.Elapsed)
			})
		}
	}
}

// An append with an id that is known already would store nothing.
func TestAppendsAreNew(t *testing.T) {
	c := loadCase{InFlight: 8, Ops: 2000}
	s, err := c.overMemory(embedded)
	require.NoError(t, err)
	require.Greater(t, s.Cost.Bytes, uint64(c.Ops*eventSize))
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	best := samples{
		{Cost: contend.Cost{CPU: time.Second, Allocs: 10, Bytes: 100}, Ops: 10, Elapsed: time.Second},
		{Cost: contend.Cost{CPU: 5 * time.Second, Allocs: 20, Bytes: 200}, Ops: 10, Elapsed: time.Second},
	}
	(&loadCase{Name: "a case", Limit: 4}).print(&out, &best)
	require.Equal(t, "a case\tcanned\t100ms\t10\t1.000\t10\t\t\t\n"+
		"a case\tembedded\t500ms\t10\t2.000\t20\t5.0\t4\t\n", out.String())
}
