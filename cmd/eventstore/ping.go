package main

import (
	"context"
	"encoding/json"
	"time"

	"github.com/goeventstore/eventstore"
)

// ping is the command that asks a server for an answer.
type ping struct {
	connection `embed:""`
}

// Validate is called by kong.
func (p *ping) Validate() error { return p.check() }

// Run prints which server has answered, and after how long.
func (p *ping) Run(ctx context.Context, std streams) error {
	return p.with(ctx, func(c *eventstore.Client) error {
		begun := time.Now()
		if err := c.Ping(ctx); err != nil {
			return err
		}
		took := time.Since(begun)
		return json.NewEncoder(std.out).Encode(struct {
			Addr         string  `json:"addr"`
			Milliseconds float64 `json:"milliseconds"`
		}{c.State().Addr, float64(took.Microseconds()) / 1000})
	})
}
