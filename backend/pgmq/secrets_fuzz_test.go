package pgmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// openFailed returns what Open does where no host of the URL can be reached, without a network.
func openFailed(ctx context.Context, url string) error {
	config, err := pgconn.ParseConfig(url)
	if err == nil {
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) {
			return nil, errors.New("lookup " + host + ": no such host")
		}
		_, err = pgconn.ConnectConfig(ctx, config)
	}
	return fault.Classify("open", "", err)
}

// notURLs are texts with a URL that has the password that is not in one as pgx reads it.
func notURLs(authority string) []string {
	return []string{
		"postgress://" + authority + "?sslmode=disable", "pgsql://" + authority + "?sslmode=disable", "Postgres://" + authority + "?sslmode=disable",
		"jdbc:postgresql://" + authority + "?a=b&c=d", "postgres:/" + authority + "?sslmode=disable", authority + "?sslmode=disable",
		"postgres://db/shop?user=" + authority, "postgres://db/shop?user=app&dbname=" + authority, "\ufeffpostgres://" + authority + "?sslmode=disable",
		`"postgres://` + authority + `?sslmode=disable"`, "'postgres://" + authority + "?sslmode=disable'",
		"DATABASE_URL=postgres://" + authority + "?sslmode=disable", "dbname=postgres://" + authority, "user=postgres://" + authority,
		"psql postgres://" + authority + "?sslmode=disable", "host=db pgsql://" + authority + "?a=b user=app",
	}
}

// quoting returns what Open or a queue on a pool does with url where the server answers a login with
// all that it was sent, in the words of complaint and with this code.
func quoting(ctx context.Context, url, code, complaint string) error {
	config, err := pgconn.ParseConfig(url)
	if err == nil {
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
		config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go quote(server, code, complaint)
			return client, nil
		}
		_, err = pgconn.ConnectConfig(ctx, config)
	}
	return fault.Classify("open", "", err)
}

func quote(connection net.Conn, code, complaint string) {
	defer func() { _ = connection.Close() }()
	server := pgproto3.NewBackend(connection, connection)
	for {
		message, err := server.ReceiveStartupMessage()
		if err != nil {
			return
		}
		startup, ok := message.(*pgproto3.StartupMessage)
		if !ok { // no TLS
			_, _ = connection.Write([]byte{'N'})
			continue
		}
		text := ""
		for name, value := range startup.Parameters {
			text += fmt.Sprintf(complaint, name)
			if code != "08P01" {
				text += fmt.Sprintf(": %q", value)
			}
		}
		server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code, Message: text, Detail: text, Hint: text})
		_ = server.Flush()
		return
	}
}

// serverComplaints are what servers and poolers say to a parameter, by their codes.
func serverComplaints() map[string]string {
	return map[string]string{
		"42602": `invalid configuration parameter name "%s"`,
		"42704": `unrecognized configuration parameter "%s"`,
		"22023": `ungültiger Wert für Parameter »%s«`,
		"42501": `permission denied to set parameter "%s"`,
		"08P01": "unsupported startup parameter: %s",
	}
}

func TestDatabaseURL_WhenInvalidIsNotShown(t *testing.T) {
	t.Parallel()
	for _, url := range notURLs("app:hunter2@db.example:5432/shop") {
		_, err := dial.OpenPool(t.Context(), url)
		require.ErrorIs(t, err, ErrInvalidConfig, url)
		require.EqualError(t, err, "pgmq: open: invalid configuration: the database URL cannot be parsed; "+
			"write it as postgres://user:password@host:5432/database?sslmode=verify-full", url)
		for code, complaint := range serverComplaints() {
			err := quoting(t.Context(), url, code, complaint)
			requireNotShown(t, url, err)
			if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
				requireNotShown(t, url, pg)
			}
		}
	}
}

func TestDatabaseURL_AcceptsServerAndExtensionParameters(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://app:hunter2@db/shop?TimeZone=UTC&search_path=app,public&app.tenant_1=x&application_name=https://shop.example",
		"postgresql://app@db/shop?pool_max_conns=7&default_query_exec_mode=exec&options=-c%20statement_timeout%3D5s",
		" host = db user=app password='a b=c' dbname=shop sslmode=disable connect_timeout=3 statement_timeout=5s",
	} {
		_, err := dial.ParseURL(url)
		require.NoError(t, err)
	}
}

func TestDatabaseURL_RefusedParameterIsConfigurationError(t *testing.T) {
	t.Parallel()
	err := quoting(t.Context(), "postgres://app@db/shop?sslmode=disable&search_pat=app", "42704", serverComplaints()["42704"])
	require.ErrorIs(t, err, ErrInvalidConfig)
	require.ErrorContains(t, err, "a parameter that the server does not take, or not with this value (SQLSTATE 42704)")
}

func requireNotShown(t *testing.T, url string, err error) {
	t.Helper()
	const password = "hunter2"
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Error("failed", "error", err)
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "error", err)
	texts := []string{string(asJSON), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, err), fmt.Sprintf(verb, struct{ err error }{err}))
	}
	for _, text := range texts {
		require.NotContains(t, text, password, url)
		require.NotContains(t, text, fmt.Sprintf("%x", password), url)
	}
}

func TestError_HidesUnencodedPassword(t *testing.T) {
	t.Parallel()
	one, two := []string{""}, []string{""}
	for _, a := range "@:/,#?%[]1b" {
		one = append(one, string(a))
		for _, b := range " @:/,1b" {
			two = append(two, strings.TrimSpace(string([]rune{a, b})))
		}
	}
	for _, few := range one {
		for _, more := range two {
			for _, password := range []string{few + "hunter2" + more, more + "hunter2" + few} {
				url := "postgres://app:" + password + "@db/shop"
				requireNotShown(t, url, openFailed(t.Context(), url))
			}
		}
	}
}

// FuzzError_ShowsNoPassword has a password with anything before and after what is looked for.
// An = is left out: what is behind "?user=" is no password any more, by any reading.
func FuzzError_ShowsNoPassword(f *testing.F) {
	for _, around := range [][2]string{{"", ""}, {"a@", ""}, {"@", ",b"}, {"@", ":1,b"}, {"@b,", "@"}, {"1/", "/x"}, {"%40", "%2f"}} {
		f.Add(around[0], around[1], "db:1", "shop")
	}
	f.Fuzz(func(t *testing.T, before, after, host, database string) {
		if strings.ContainsAny(before+after+host+database, "='\\ \t\n\r\f\v") || strings.Contains(before+after+host+database, "hunter") || strings.HasPrefix(host, "/") {
			t.Skip()
		}
		for _, url := range []string{"postgres://app:" + before + "hunter2" + after + "@" + host + "/" + database, "host=db user=app password='" + before + "hunter2" + after + "'"} {
			ended, stop := context.WithCancel(t.Context())
			stop() // where the host is an address, nothing is sent there
			requireNotShown(t, url, openFailed(ended, url))
		}
		for _, url := range notURLs("app:" + before + "hunter2" + after + "@" + host + "/" + database) {
			_, err := dial.ParseURL(url)
			requireNotShown(t, url, err)
			for code, complaint := range serverComplaints() {
				requireNotShown(t, url, quoting(t.Context(), url, code, complaint))
			}
		}
	})
}
