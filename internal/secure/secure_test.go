package secure_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/internal/secure"
)

// TestAnEndOfTheStreamIsOne: what was written before it arrives, and the other direction goes on; before the handshake it is the
// socket's alone.
func TestAnEndOfTheStreamIsOne(t *testing.T) {
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.StartTLS()
	defer web.Close()
	network := memnet.New()
	plain, err := network.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := secure.Listen(plain, &tls.Config{Certificates: web.TLS.Certificates})
	defer func() { require.NoError(t, l.Close()) }()
	pair := func() (client, server net.Conn) {
		client, err := network.Dial(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		server, err = l.Accept()
		require.NoError(t, err)
		return client, server
	}

	client, server := pair()
	require.NoError(t, server.(*secure.Conn).CloseWrite())
	_, err = io.ReadAll(client)
	require.NoError(t, err)
	require.NoError(t, server.Close())
	require.NoError(t, client.Close())

	client, server = pair()
	shaken := tls.Client(client, &tls.Config{InsecureSkipVerify: true})
	heard := make(chan string, 1) // the reader sends once
	go func() {
		b, _ := io.ReadAll(server)
		heard <- string(b)
	}()
	go func() {
		_, _ = server.Write([]byte("hello")) // when the handshake is made
		_ = server.(*secure.Conn).CloseWrite()
	}()
	b, err := io.ReadAll(shaken)
	require.NoError(t, err)
	require.Equal(t, "hello", string(b))
	_, err = shaken.Write([]byte("goodbye"))
	require.NoError(t, err)
	require.NoError(t, shaken.CloseWrite())
	require.Equal(t, "goodbye", <-heard)
	require.NoError(t, server.Close())
}
