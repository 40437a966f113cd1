package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goeventstore/eventstore/internal/secure"
)

// httpSide is the HTTP side of a server.
type httpSide struct {
	url      string
	scheme   string // of url, with its slashes
	listener net.Listener
	server   http.Server
	running  sync.WaitGroup // the accept loop and the connections
	open     atomic.Int64   // connections
}

// The limits of the HTTP side. Connections are bounded as those of the TCP side are.
const (
	httpHeaderDeadline = 10 * time.Second
	httpIdleDeadline   = time.Minute
	httpAnswerDeadline = 2 * time.Minute
	maxHTTPHeader      = 64 << 10
)

// listenHTTP listens on cfg.HTTP.
func (s *Server) listenHTTP(cfg *Config) (*httpSide, error) {
	listener, err := cfg.Listen("tcp", cfg.HTTP)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.HTTP, err)
	}
	h := &httpSide{listener: listener, scheme: "http://"}
	if cfg.Dialect.TLS {
		h.listener, h.scheme = secure.Listen(listener, cfg.TLS), "https://"
	}
	h.url = h.scheme + reachable(listener.Addr().String())
	h.server = http.Server{
		Handler:           &guard{newHTTPAPI(s, h, cfg), h.scheme},
		ReadHeaderTimeout: httpHeaderDeadline,
		ReadTimeout:       httpIdleDeadline,
		WriteTimeout:      httpAnswerDeadline,
		IdleTimeout:       httpIdleDeadline,
		MaxHeaderBytes:    maxHTTPHeader,
		ErrorLog:          slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelInfo),
		ConnState:         h.connState,
	}
	return h, nil
}

// serve takes requests. All else of the server runs by then.
func (h *httpSide) serve() {
	h.running.Go(func() { _ = h.server.Serve(h.listener) }) // it ends with ErrServerClosed, or with the listener
}

// connState counts the connections. Serve calls it with StateNew before the connection has a goroutine, and that goroutine
// calls it last of all.
func (h *httpSide) connState(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		h.running.Add(1)
		if h.open.Add(1) > maxConnections {
			_ = conn.Close()
		}
	case http.StateClosed, http.StateHijacked:
		h.open.Add(-1)
		h.running.Done()
	default:
	}
}

// close ends all connections, and returns when the last goroutine has ended.
func (h *httpSide) close() error {
	err := h.server.Close()
	h.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// guard keeps out what a page in somebody's browser sends: by a name of its own that leads here, or from another origin.
type guard struct {
	next   http.Handler
	scheme string
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch origin := r.Header.Get("Origin"); {
	case !trustedHost(r.Host):
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, "<h1>Bad Request (Invalid host)</h1>") // as on a real server
	case origin != "" && origin != g.scheme+r.Host:
		http.Error(w, "requests from other origins are refused", http.StatusForbidden)
	default:
		g.next.ServeHTTP(w, r)
	}
}

// trustedHost reports whether a Host header can only have led here on purpose: an address, or localhost. Any other name
// may be one that its owner has pointed at this machine.
func trustedHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.EqualFold(host, "localhost") || net.ParseIP(strings.Trim(host, "[]")) != nil
}
