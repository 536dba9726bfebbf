package pgmq

import (
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"
)

// askingForPasswords returns the address of a server that has no TLS, asks for the password
// in clear text, and tells what it was given.
func askingForPasswords(t *testing.T) (address string, captured <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	passwords := make(chan string, 10)
	go func() {
		defer close(passwords)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if password := ask(conn); password != "" {
				passwords <- password
			}
		}
	}()
	return listener.Addr().String(), passwords
}

func ask(conn net.Conn) string {
	defer func() { _ = conn.Close() }()
	server := pgproto3.NewBackend(conn, conn)
	first, err := server.ReceiveStartupMessage()
	if _, ok := first.(*pgproto3.SSLRequest); ok && err == nil {
		_, _ = conn.Write([]byte("N"))
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

func TestOpen_SendsNoPasswordToWrongServer(t *testing.T) {
	t.Parallel()
	address, captured := askingForPasswords(t)
	for _, parameters := range []string{"sslmode=verify-full", "require_auth=scram-sha-256", "sslmode=verify-full&require_auth=scram-sha-256"} {
		_, err := Open(t.Context(), "postgres://user:"+secret+"@"+address+"/db?"+parameters, nil)
		require.Error(t, err, parameters)
		requireSecretFree(t, err)
	}
	select {
	case password := <-captured:
		t.Fatalf("the server was told %q", password)
	default:
	}
	_, err := Open(t.Context(), "postgres://user:"+secret+"@"+address+"/db", nil)
	require.Error(t, err)
	require.Equal(t, secret, <-captured, "without them it is told")
}
