package pgmq_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver pgx
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// throughPooler starts PgBouncer in front of the server of database, in
// transaction mode and with fewer connections than it has clients. It returns
// the URL of the database through it.
func throughPooler(t *testing.T, database string) string {
	t.Helper()
	program := findPooler(t)
	dir, err := os.MkdirTemp("/tmp", "ezq-pgbouncer.*") //nolint:usetesting // the pooler's user has no way into TempDir
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	u, err := url.Parse(database)
	require.NoError(t, err)
	server := u.Host
	u.Host = closedPort(t)
	settings := filepath.Join(dir, "pgbouncer.ini")
	require.NoError(t, os.WriteFile(settings, poolerSettings(t, server, u), 0o600))

	command := exec.Command(program, "-q", settings)
	command.Stderr = os.Stderr
	if os.Geteuid() == 0 { // which PgBouncer refuses
		command.SysProcAttr = &syscall.SysProcAttr{Credential: serverUser(t, dir, settings)}
	}
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may have failed
		_ = command.Wait()
	})
	pgtest.Eventually(t, patience, "PgBouncer answers", func() bool {
		conn, err := net.Dial("tcp", u.Host)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return u.String()
}

func poolerSettings(t *testing.T, server string, through *url.URL) []byte {
	t.Helper()
	host, port, err := net.SplitHostPort(server)
	require.NoError(t, err)
	_, listenPort, err := net.SplitHostPort(through.Host)
	require.NoError(t, err)
	password, _ := through.User.Password()
	return fmt.Appendf(nil, `[databases]
* = host=%s port=%s user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %s
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 1000
log_connections = 0
log_disconnections = 0
`, host, port, through.User.Username(), password, listenPort)
}

// findPooler returns the path of PgBouncer. In CI it must be there, if it can be
// installed.
func findPooler(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" && os.Geteuid() == 0 {
		out, err := exec.CommandContext(t.Context(), "apt-get", "install", "-y", "--no-install-recommends", "pgbouncer").CombinedOutput()
		if err == nil {
			return "/usr/sbin/pgbouncer"
		}
		t.Logf("apt-get: %v\n%s", err, out)
	}
	t.Skip("PgBouncer is not installed: apt-get install pgbouncer")
	return ""
}

// serverUser returns the user postgres, to whom it gives the paths.
func serverUser(t *testing.T, paths ...string) *syscall.Credential {
	t.Helper()
	postgres, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.ParseUint(postgres.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(postgres.Gid, 10, 32)
	require.NoError(t, err)
	for _, path := range paths {
		require.NoError(t, os.Chown(path, int(uid), int(gid)))
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

func TestPooler_PassesWatermillSuite(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, throughPooler(t, pgtest.Database(t)))
	suiteOn(t, pool, 100, tests.Features{Persistent: true, ConsumerGroups: true, ForceShort: true})
}

func TestPooler_ServesRouter(t *testing.T) {
	t.Parallel()
	const publishers, each = 8, 50
	direct := pgtest.Database(t)
	database := throughPooler(t, direct)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var handled atomic.Int32
	results := make(chan error, 2)
	for range 2 {
		router := newRouter(openAt(t, database, pgmq.Config{}), ezq.Config{Concurrency: 10})
		ezq.Handle(router, func(context.Context, userCreated) error {
			if handled.Add(1) == publishers*each {
				stop()
			}
			return nil
		})
		go func() { results <- router.Run(ctx) }()
	}
	var publishing sync.WaitGroup
	for range publishers {
		client := openAt(t, database, pgmq.Config{}) // with connections of its own
		publishing.Go(func() {
			for range each {
				if err := ezq.Publish(t.Context(), client, userCreated{"ada"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	publishing.Wait()
	require.NoError(t, <-results)
	require.NoError(t, <-results)
	require.EqualValues(t, publishers*each, handled.Load(), "each exactly once, as nothing failed")
	require.Zero(t, get[int](t, pgtest.Pool(t, direct), "select count(*) from pgmq.q_ezq"))
}

func TestPooler_LetsTransactionPublish(t *testing.T) {
	t.Parallel()
	database := throughPooler(t, pgtest.Database(t))
	client := openAt(t, database, pgmq.Config{})
	config, err := pgxpool.ParseConfig(database)
	require.NoError(t, err)
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe // for the application's own statements
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		return client.WithTx(tx).Publish("t", message.NewMessage("a", nil))
	}))
	messages := subscribe(t, client)
	receive(t, messages).Ack()

	db, err := sql.Open("pgx", database+"&default_query_exec_mode=exec")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, client.WithSQLTx(tx).Publish("t", message.NewMessage("b", nil)))
	require.NoError(t, tx.Commit())
	receive(t, messages).Ack()
}

func TestPooler_KeepsConditions(t *testing.T) {
	t.Parallel()
	client := openAt(t, throughPooler(t, pgtest.Database(t)), pgmq.Config{})
	var publishing sync.WaitGroup
	for publisher := range 8 { // more than the pooler has connections
		publishing.Go(func() {
			topic := fmt.Sprint("t", publisher)
			for round := range 10 {
				for i, want := range []backend.PublishOutcome{backend.PublishStored, backend.PublishExisted, backend.PublishStored, backend.PublishExisted, backend.PublishReplaced} {
					key := fmt.Sprint(round)
					c := []*backend.PublishCondition{once(), once(), unique(key), unique(key), replacing(key, time.Hour)}[i]
					if err := client.Publish(topic, conditional(t.Context(), key, c, time.Hour)); err != nil {
						t.Error(err)
					}
					if result, _ := c.Result(); result.Outcome != want {
						t.Errorf("the outcome is %v instead of %v", result.Outcome, want)
					}
				}
			}
		})
	}
	publishing.Wait()
}

func TestPooler_LogsOnceThatSubscriberPolls(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	logged := &warnings{}
	client := openAt(t, throughPooler(t, direct), pgmq.Config{Logger: slog.New(logged)})
	messages := subscribe(t, client)
	publisher := openAt(t, direct, pgmq.Config{})
	for range 20 { // each of which notifies
		publish(t, publisher, "a")
		receive(t, messages).Ack()
	}
	pgtest.Eventually(t, patience, "it says so", func() bool { return len(logged.all()) > 0 })
	_, err := client.Subscribe(t.Context(), "another")
	require.NoError(t, err)
	require.NoError(t, client.Close())
	require.Len(t, logged.all(), 1)
	require.Contains(t, logged.all()[0], "looking for messages at intervals")
}

// A statement that only concerns its session would concern that of every client.
func TestPooler_SessionsStayUnchanged(t *testing.T) {
	t.Parallel()
	direct := pgtest.Database(t)
	database := throughPooler(t, direct)
	logged := &warnings{}
	client := openAt(t, database, pgmq.Config{Logger: slog.New(logged)})
	messages := subscribe(t, client)
	publish(t, client, "a")
	receive(t, messages).Ack()
	pgtest.Eventually(t, patience, "it has given up to listen", func() bool { return len(logged.all()) > 0 })
	require.NoError(t, client.Close())

	pool := pgtest.Pool(t, database+"&default_query_exec_mode=exec&pool_max_conns=2")
	sessions := map[int]bool{}
	for deadline := time.Now().Add(patience); len(sessions) < 2 && time.Now().Before(deadline); {
		first, err := pool.Begin(t.Context()) // so that the two are on different sessions
		require.NoError(t, err)
		second, err := pool.Begin(t.Context())
		require.NoError(t, err)
		for _, tx := range []pgx.Tx{first, second} {
			var pid int
			var state string
			require.NoError(t, tx.QueryRow(t.Context(), `select pg_backend_pid(),
				(select count(*) from pg_listening_channels()) || ' channels, '
				|| (select count(*) from pg_prepared_statements) || ' statements, '
				|| (select count(*) from pg_settings where source = 'session' and name <> 'application_name') || ' settings'`).Scan(&pid, &state))
			require.Equal(t, "0 channels, 0 statements, 0 settings", state)
			sessions[pid] = true
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
	require.Len(t, sessions, 2)
}

// warnings is a log of which only warnings and errors are kept.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}

func (w *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w *warnings) Handle(_ context.Context, record slog.Record) error {
	line := []string{record.Message}
	record.Attrs(func(a slog.Attr) bool { line = append(line, a.String()); return true })
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, strings.Join(line, " "))
	return nil
}

func (w *warnings) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w *warnings) WithGroup(string) slog.Handler      { return w }
