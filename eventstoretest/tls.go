package eventstoretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TLS has the clients speak TLS to the proxy, which goes on to see frames and to have faults. The certificate is made for this
// server, for 127.0.0.1, ::1 and localhost. Server.URL has the file with it as its tlsCA, and so Server.Client, and whoever else
// connects to that target, trusts it; no other client does. The file is gone with the test, the key is never in one.
//
// The embedded server has a port with TLS and the same certificate too, which Server.DirectURL names. Of a real one that the
// environment names it is the plain port; TLS ends at the proxy.
func TLS() Option { return option(func(c *config) { c.secure = true }) }

// identity is who a server says that it is.
type identity struct {
	keys *tls.Config
	ca   string // the file with the certificate
}

// newIdentity makes a certificate that vouches for itself. Its time is that of the bubble that the test may be in.
func newIdentity(tb testing.TB) (*identity, error) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	certificate := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "eventstoretest"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(100, 0, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, certificate, certificate, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	ca := filepath.Join(tb.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return &identity{&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, ca}, nil
}
