package pgmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

const secret = "s3cr3t-canary"

// requireSecretFree looks at err, and at everything errors.As can get out of it,
// as a log would show it.
func requireSecretFree(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	for _, shown := range []string{err.Error(), fmt.Sprintf("%v", err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), string(asJSON)} {
		require.NotContains(t, shown, secret)
		require.NotContains(t, shown, "canary", "not the half of it either")
	}
	var connect *pgconn.ConnectError
	require.False(t, errors.As(err, &connect))
	var parse *pgconn.ParseConfigError
	require.False(t, errors.As(err, &parse))

	switch wrapper := err.(type) { //nolint:errorlint // the tree is walked by hand, to see all of it
	case interface{ Unwrap() error }:
		requireSecretFree(t, wrapper.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range wrapper.Unwrap() {
			requireSecretFree(t, err)
		}
	}
}

func TestError_HidesUnparsableURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://user:" + secret + "@host:port/db",
		"postgres://user:" + secret + "@[::1/db",
		"postgres://user:" + secret + "@host/db?sslmode=" + secret,
		"postgres://user:" + secret + "@host/db?connect_timeout=" + secret,
		"postgres://user:" + secret + "@host/db?pool_max_conns=" + secret,
		"postgres://user:s3cr3t/canary@host/db",
		"postgres://user:s3cr3t%zzcanary@host/db",
		"host=host port=port password=" + secret,
		"host=host port=port password = " + secret,
		"host=host port=port password='" + secret,
		"host=host password='s3cr3t' canary'",
		"password " + secret,
	} {
		_, err := pgxpool.ParseConfig(url)
		if err == nil {
			continue // versions of pgx differ in what they can make sense of
		}
		err = fault.Classify("open", "", fmt.Errorf("wrapped: %w", err))
		requireSecretFree(t, err)
		require.ErrorIs(t, err, ErrInvalidConfig)
		require.EqualError(t, err, "pgmq: open: invalid configuration: the database URL cannot be parsed; "+
			"write it as postgres://user:password@host:5432/database, with special characters percent-encoded")
	}
}

// connectionRefused returns what pgx says about a port at which no server listens.
func connectionRefused(t *testing.T) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return connectionError(t, t.Context(), listener.Addr().String())
}

func connectionError(t *testing.T, ctx context.Context, host string) error {
	t.Helper()
	_, err := pgconn.Connect(ctx, "postgres://user:"+secret+"@"+host+"/db?sslmode=disable")
	var connect *pgconn.ConnectError
	require.True(t, errors.As(err, &connect), "%v", err)
	require.Equal(t, secret, connect.Config.Password, "the password is there to be leaked")
	return err
}

func TestError_NamesRefusedConnectionWithoutPassword(t *testing.T) {
	t.Parallel()
	err := fault.Classify("open", "", fmt.Errorf("wrapped: %w", connectionRefused(t)))
	requireSecretFree(t, err)
	require.ErrorIs(t, err, ErrUnreachable)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.Regexp(t, `^pgmq: open: no connection to PostgreSQL: 127\.0\.0\.1:\d+: connect: connection refused; check that `, err.Error())
}

func TestError_NamesEachTriedHostOnce(t *testing.T) {
	t.Parallel()
	err := fault.Classify("open", "", connectionError(t, t.Context(), "127.0.0.1:1,127.0.0.2:1"))
	requireSecretFree(t, err)
	require.Regexp(t, `: 127\.0\.0\.1:1: connect: connection refused; 127\.0\.0\.2:1: connect: connection refused; check`, err.Error())
}

func TestError_HidesPasswordMistakenForHost(t *testing.T) {
	t.Parallel()
	_, err := pgconn.Connect(t.Context(), "postgres://user:s3cr3t@canary@host.invalid/db")
	err = fault.Classify("open", "", err)
	requireSecretFree(t, err)
	require.ErrorIs(t, err, ErrUnreachable)
	require.Contains(t, err.Error(), "…@host.invalid")
}

func TestError_NamesHostAsConfiguredAndResolved(t *testing.T) {
	t.Parallel()
	err := fault.Classify("open", "", connectionError(t, t.Context(), "localhost:1"))
	require.Regexp(t, `: localhost:1 \(.*127\.0\.0\.1:1: connect: connection refused.*\); check`, err.Error())
}

func TestError_KeepsContextEndOfFailedConnection(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	err := fault.Classify("publish", "orders", connectionError(t, cancelled, "127.0.0.1:1"))
	requireSecretFree(t, err)
	require.ErrorIs(t, err, context.Canceled)
	require.NotErrorIs(t, err, ErrUnreachable, "PostgreSQL may well be there")

	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	err = fault.Classify("publish", "orders", connectionError(t, late, "127.0.0.1:1"))
	requireSecretFree(t, err)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestError_KeepsServerReasonForRefusedLogin(t *testing.T) {
	t.Parallel()
	for code, kind := range map[string]error{"28P01": ErrAuthentication, "53300": ErrUnreachable, "3D000": ErrInvalidConfig} {
		err := fault.Classify("open", "", connectionError(t, t.Context(), refusing(t, code)))
		requireSecretFree(t, err)
		require.ErrorIs(t, err, kind)
		var pg *pgconn.PgError
		require.True(t, errors.As(err, &pg))
		require.Equal(t, code, pg.Code)
		require.Contains(t, err.Error(), "no entry for you (SQLSTATE "+code+")")
	}
}

// A server that asks for the password in clear text knows it, and may say it.
func TestError_HidesPasswordThatServerQuotes(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"28000", "28P01", "08P01", "53300"} {
		host := answering(t, func(server *pgproto3.Backend) error {
			server.Send(&pgproto3.AuthenticationCleartextPassword{})
			if err := server.Flush(); err != nil {
				return err
			}
			if err := server.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
				return err
			}
			message, err := server.Receive()
			if err != nil {
				return err
			}
			password := message.(*pgproto3.PasswordMessage).Password //nolint:forcetypeassert // it is what was asked for
			server.Send(&pgproto3.ErrorResponse{
				Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "bad secret " + password + ", go away", Detail: password, Hint: "not " + password, Where: password,
			})
			return server.Flush()
		})
		err := fault.Classify("open", "", connectionError(t, t.Context(), host))
		requireSecretFree(t, err)
		require.ErrorContains(t, err, "bad secret …, go away (SQLSTATE "+code+")")
	}
}

// refusing returns the address of a server that answers a login with an error.
func refusing(t *testing.T, code string) string {
	t.Helper()
	return answering(t, func(server *pgproto3.Backend) error {
		server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: "no entry for you"})
		return server.Flush()
	})
}

// answering returns the address of a server that answers one login.
func answering(t *testing.T, answer func(server *pgproto3.Backend) error) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		server := pgproto3.NewBackend(connection, connection)
		if _, err := server.ReceiveStartupMessage(); err != nil {
			return
		}
		_ = answer(server)
	}()
	return listener.Addr().String()
}
