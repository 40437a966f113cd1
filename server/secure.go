package server

import (
	"errors"
	"fmt"
	"net"

	"github.com/goeventstore/eventstore/internal/secure"
)

// listenTCP opens the address of clients, which with some dialects speaks TLS, and returns the scheme of its URL.
func listenTCP(cfg *Config) (l net.Listener, scheme string, err error) {
	scheme = "tcp://"
	if cfg.Dialect.TLS {
		scheme = "tls://"
		switch {
		case cfg.TLS == nil:
			return nil, "", errors.New("Config.Dialect has TLS, which needs Config.TLS")
		case cfg.Secure != "":
			return nil, "", errors.New("Config.Secure: with TLS in Config.Dialect Config.TCP is secure already")
		}
	}
	l, err = cfg.Listen("tcp", cfg.TCP)
	if err != nil {
		return nil, "", fmt.Errorf("listen on %s: %w", cfg.TCP, err)
	}
	if cfg.Dialect.TLS {
		l = secure.Listen(l, cfg.TLS)
	}
	return l, scheme, nil
}

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
