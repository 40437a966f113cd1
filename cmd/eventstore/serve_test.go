package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/server"
)

// certificate writes the one of package httptest, which is for 127.0.0.1, with its key to files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	web := httptest.NewTLSServer(http.NotFoundHandler())
	defer web.Close()
	pair := web.TLS.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	require.NoError(t, err)
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return cert, key
}

// connect is a client of a server that printed this URL.
func connect(t *testing.T, printed, query string) *eventstore.Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := eventstore.Connect(ctx, strings.Replace(printed, "://", "://admin:changeit@", 1)+query)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestServeWithTLS(t *testing.T) {
	cert, key := certificate(t)
	args := []string{"--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key}
	trust := "?tlsCA=" + url.QueryEscape(cert)
	t.Run("a port of its own", func(t *testing.T) {
		p := start(t, append(args, "--secure", "127.0.0.1:0")...)
		require.True(t, p.lines.Scan())
		require.Regexp(t, `^tls://127\.0\.0\.1:\d+$`, p.lines.Text())
		require.NoError(t, connect(t, p.lines.Text(), trust).Ping(t.Context()))
		require.NoError(t, connect(t, p.tcp, "").Ping(t.Context()))
		require.Contains(t, pinged(t, p.http), "successfully")
	})
	t.Run("all ports of the dialect", func(t *testing.T) {
		p := start(t, append(args, "--dialect", "20.10")...)
		require.Regexp(t, `^tls://`, p.tcp)
		require.Regexp(t, `^https://`, p.http)
		require.NoError(t, connect(t, p.tcp, trust).Ping(t.Context()))
	})
	t.Run("files that are none", func(t *testing.T) {
		code, _, stderr := runProgram(t, "serve", "--tls-cert", key, "--tls-key", cert, "--secure", "127.0.0.1:0")
		require.Equal(t, exitFailed, code)
		require.Contains(t, stderr, "--tls-cert "+key)
	})
}

// TestServeADialect: it tells its version, also where its servers have TLS and this one was told to have none.
func TestServeADialect(t *testing.T) {
	for dialect, want := range map[string]string{"3.9.4": "3.9.4.0", "23.10": "23.10.6.0"} {
		p := start(t, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dialect", dialect, "--insecure")
		require.Contains(t, get(t, p.http+"/info"), want)
		require.NoError(t, connect(t, p.tcp, "").Ping(t.Context()))
	}
}

// TestServeUntilShutdown: who is told over HTTP to shut down ends as a process, and well.
func TestServeUntilShutdown(t *testing.T) {
	p := start(t, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0")
	require.Equal(t, "ready\n", get(t, p.http+"/health/ready"))
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.http+"/admin/shutdown", http.NoBody)
	require.NoError(t, err)
	r.SetBasicAuth("ops", "changeit")
	answer, err := http.DefaultClient.Do(r)
	if err == nil { // else the server was faster than its answer
		require.NoError(t, answer.Body.Close())
		require.Equal(t, http.StatusOK, answer.StatusCode)
	}
	require.NoError(t, p.cmd.Wait(), p.stderr)
	require.Contains(t, p.stderr.String(), "server closed")
}

func TestServeLogs(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM to send on Windows")
	}
	for _, format := range []string{"json", "off"} {
		p := start(t, "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--log", format)
		require.Zero(t, p.end(t, syscall.SIGTERM))
		if format == "off" {
			require.Empty(t, p.stderr.String())
			continue
		}
		first, _, _ := strings.Cut(p.stderr.String(), "\n")
		var line struct{ Msg, URL string }
		require.NoError(t, json.Unmarshal([]byte(first), &line))
		require.Equal(t, "server started", line.Msg)
		require.Equal(t, p.tcp, line.URL)
	}
}

// TestServeOthers: with TLS on all ports and a folder that has passwords of its own a server may listen where others reach it.
func TestServeOthers(t *testing.T) {
	cert, key := certificate(t)
	folder := t.TempDir()
	args := []string{
		"--dialect", "20.10", "--tls-cert", cert, "--tls-key", key, "--tcp", "0.0.0.0:0", "--http", "127.0.0.1:0", "--db", folder,
	}
	for _, user := range []string{"admin", "ops"} {
		code, stdout, stderr := runProgram(t, append([]string{"serve"}, args...)...)
		require.Equal(t, exitFailed, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "the user "+user+" in "+folder+" has the password that everybody knows")

		srv, err := server.Start(server.Config{DB: folder})
		require.NoError(t, err)
		manager, err := admin.New(strings.Replace(srv.HTTPURL(), "://", "://"+map[string]string{
			"admin": "admin:changeit", "ops": "admin:secret",
		}[user]+"@", 1))
		require.NoError(t, err)
		require.NoError(t, manager.ResetPassword(t.Context(), user, "secret"))
		require.NoError(t, srv.Close())
	}
	// Nothing is listened on in this test: that is not for this machine alone.
	s := serve{TCP: "0.0.0.0:0", HTTP: "127.0.0.1:0", TLSCert: cert, TLSKey: key, DB: folder, Dialect: "20.10"}
	require.NoError(t, s.Validate())
	require.NoError(t, s.ownPasswords(t.Context()))
}

func TestServeOthersInsecurely(t *testing.T) {
	s := serve{TCP: "0.0.0.0:0", HTTP: ":0", Dialect: "4.1", Insecure: true}
	require.NoError(t, s.Validate())
	require.NoError(t, s.ownPasswords(t.Context()))
	s.Insecure = false
	require.Error(t, s.Validate())
}

// TestServeCluster: nodes of which each prints its addresses, and a target that leads to whichever leads.
func TestServeCluster(t *testing.T) {
	p := start(t, "--cluster", "3", "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0")
	var more []string
	for range 5 {
		require.True(t, p.lines.Scan())
		more = append(more, p.lines.Text())
	}
	require.Regexp(t, `^gossip://127\.0\.0\.1:\d+,127\.0\.0\.1:\d+,127\.0\.0\.1:\d+$`, more[4])
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := connect(t, more[4], "").Append(ctx, "s", eventstore.NoStream, []eventstore.EventData{{Type: "t"}})
	require.NoError(t, err)
	slice, err := connect(t, more[0], "").ReadSlice(ctx, "s", eventstore.Start, 10)
	require.NoError(t, err)
	require.Len(t, slice.Events, 1)
	require.Contains(t, get(t, more[1]+"/gossip"), "Master")
	if runtime.GOOS != "windows" {
		require.Zero(t, p.end(t, syscall.SIGTERM))
		require.Contains(t, p.stderr.String(), "all in one process")
	}

	for args, want := range map[string]string{"--db x": "--cluster and --db do not go together", "--http off": "HOST:PORT"} {
		code, _, stderr := runProgram(t, append([]string{"serve", "--cluster", "3"}, strings.Fields(args)...)...)
		require.NotZero(t, code)
		require.Contains(t, stderr, want)
	}
}
