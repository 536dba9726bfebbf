package pgmq

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// askingForPasswords returns the address of a server that has the certificate, or no TLS if that is nil, asks
// for the password in clear text, and a function that stops it and returns what it was told.
func askingForPasswords(t *testing.T, certificate *tls.Certificate) (address string, stop func() []string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	told := make(chan []string)
	go func() {
		var passwords []string
		for {
			conn, err := listener.Accept()
			if err != nil {
				told <- passwords
				return
			}
			if password := ask(conn, certificate); password != "" {
				passwords = append(passwords, password)
			}
		}
	}()
	return listener.Addr().String(), func() []string {
		require.NoError(t, listener.Close())
		return <-told
	}
}

func ask(conn net.Conn, certificate *tls.Certificate) string {
	defer func() { _ = conn.Close() }()
	server := pgproto3.NewBackend(conn, conn)
	first, err := server.ReceiveStartupMessage()
	if _, ok := first.(*pgproto3.SSLRequest); ok && err == nil {
		if certificate == nil {
			_, _ = conn.Write([]byte("N"))
		} else {
			_, _ = conn.Write([]byte("S"))
			encrypted := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*certificate}, MinVersion: tls.VersionTLS12})
			server = pgproto3.NewBackend(encrypted, encrypted)
		}
		_, err = server.ReceiveStartupMessage()
	}
	if err != nil {
		return ""
	}
	server.Send(&pgproto3.AuthenticationCleartextPassword{})
	_ = server.Flush()
	_ = server.SetAuthType(pgproto3.AuthTypeCleartextPassword)
	answer, _ := server.Receive()
	if answer, ok := answer.(*pgproto3.PasswordMessage); ok {
		return answer.Password
	}
	return ""
}

// authority signs certificates.
type authority struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	file        string // with the certificate, as sslrootcert names one
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(t.TempDir(), "root.crt")}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	var der []byte
	a.key, der = a.sign(t, template)
	var err error
	a.certificate, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return a
}

// sign signs a certificate for a new key, with that key itself if the authority has none yet.
func (a *authority) sign(t *testing.T, template *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, parentKey := template, key
	if a.certificate != nil {
		parent, parentKey = a.certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	require.NoError(t, err)
	return key, der
}

// serverAt returns the certificate of a server at that address.
func (a *authority) serverAt(t *testing.T, ip string) *tls.Certificate {
	t.Helper()
	key, der := a.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestOpen_SendsNoPasswordToWrongServer(t *testing.T) {
	t.Parallel()
	const (
		certificateRemedy = "sslrootcert"
		authRemedy        = "check require_auth"
	)
	trusted, other := newAuthority(t), newAuthority(t)
	root := "&sslrootcert=" + url.QueryEscape(trusted.file)
	for name, test := range map[string]struct {
		certificate *tls.Certificate
		parameters  string
		told        bool
		remedy      string
	}{
		"no TLS":                                {nil, "sslmode=verify-full" + root, false, "sslmode"},
		"no TLS, require_auth":                  {nil, "sslmode=prefer&require_auth=scram-sha-256", false, authRemedy},
		"no TLS, both":                          {nil, "sslmode=verify-full&require_auth=scram-sha-256" + root, false, ""},
		"no TLS, unprotected":                   {nil, "", true, ""},
		"another authority":                     {other.serverAt(t, "127.0.0.1"), "sslmode=verify-full" + root, false, certificateRemedy},
		"another authority, of the machine":     {trusted.serverAt(t, "127.0.0.1"), "sslmode=verify-full&sslrootcert=system", false, certificateRemedy},
		"another authority, without root":       {other.serverAt(t, "127.0.0.1"), "sslmode=verify-full", false, certificateRemedy},
		"another authority, require":            {other.serverAt(t, "127.0.0.1"), "sslmode=require", true, ""},
		"another name":                          {trusted.serverAt(t, "127.0.0.2"), "sslmode=verify-full" + root, false, certificateRemedy},
		"the right server":                      {trusted.serverAt(t, "127.0.0.1"), "sslmode=verify-full" + root, true, ""},
		"the right server asks for a password":  {trusted.serverAt(t, "127.0.0.1"), "sslmode=verify-full&require_auth=scram-sha-256" + root, false, authRemedy},
		"the right server may ask for password": {trusted.serverAt(t, "127.0.0.1"), "sslmode=verify-full&require_auth=password" + root, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, stop := askingForPasswords(t, test.certificate)
			_, err := Open(t.Context(), "postgres://user:"+secret+"@"+address+"/db?"+test.parameters, nil)
			require.Error(t, err, "the server lets no client in")
			requireSecretFree(t, err)
			require.ErrorContains(t, err, test.remedy)
			if passwords := stop(); test.told {
				require.Equal(t, []string{secret}, passwords)
			} else {
				require.Empty(t, passwords)
			}
		})
	}
}
