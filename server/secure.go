package server

import (
	"errors"
	"fmt"
	"net"

	"github.com/goeventstore/eventstore/internal/secure"
)

// listenSecure opens the address for TLS (4.21), if there is to be one.
func listenSecure(cfg *Config) (net.Listener, error) {
	if cfg.Secure == "" {
		return nil, nil
	}
	if cfg.TLS == nil {
		return nil, errors.New("Config.Secure needs Config.TLS")
	}
	l, err := cfg.Listen("tcp", cfg.Secure)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Secure, err)
	}
	return secure.Listen(l, cfg.TLS), nil
}
