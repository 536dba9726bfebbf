package pgmq_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const canary = "s3cr3t-canary"

// requireNoSecret fails if err shows the password in any of the ways in which
// errors end up in logs.
func requireNoSecret(t *testing.T, err error) {
	t.Helper()
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	for _, shown := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), string(asJSON)} {
		require.NotContains(t, shown, canary)
	}
}

func withPassword(t *testing.T, database, password string) string {
	t.Helper()
	u, err := url.Parse(database)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), password)
	return u.String()
}

// closedPort returns an address at which no server listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	return address
}

func TestOpen_NamesErrorAndRemedy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		url    func(t *testing.T) string
		kind   error
		remedy string
	}{
		{
			"a text that is no URL",
			func(*testing.T) string { return "postgres://user:" + canary + "@host:port/db" },
			pgmq.ErrInvalidConfig, "its parameter port has no valid value; correct that parameter",
		},
		{
			"keywords that make no sense",
			func(*testing.T) string { return "host=h password = " + canary + " port=x" },
			pgmq.ErrInvalidConfig, "its parameter port has no valid value; correct that parameter",
		},
		{
			"a server that is unreachable",
			func(t *testing.T) string { return "postgres://user:" + canary + "@" + closedPort(t) + "/db" },
			pgmq.ErrUnreachable, "check that PostgreSQL is running",
		},
		{
			"a database that does not exist",
			func(t *testing.T) string { return pgtest.EmptyDatabase(t) + "&database=nowhere" },
			pgmq.ErrInvalidConfig, "check the database name",
		},
		{
			"a database without PGMQ",
			func(t *testing.T) string { return pgtest.EmptyDatabase(t) },
			pgmq.ErrNotInstalled, "CREATE EXTENSION pgmq",
		},
		{
			"a role without rights",
			func(t *testing.T) string { return pgtest.Role(t, pgtest.Database(t)) },
			pgmq.ErrPermission, "GRANT USAGE ON SCHEMA pgmq",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, err := pgmq.Open(t.Context(), test.url(t), nil)
			require.ErrorIs(t, err, test.kind)
			require.ErrorContains(t, err, test.remedy)
			require.ErrorContains(t, err, "pgmq: open")
			requireNoSecret(t, err)
			require.Less(t, time.Since(start), patience, "it does not hang")
			var typed *pgmq.Error
			require.ErrorAs(t, err, &typed)
		})
	}
}

func TestOpen_HidesWrongPassword(t *testing.T) {
	t.Parallel()
	database := withPassword(t, pgtest.Role(t, pgtest.Database(t)), canary)
	_, err := pgmq.Open(t.Context(), database, nil)
	if errors.Is(err, pgmq.ErrPermission) {
		t.Skip("EZQ_TEST_DATABASE is a server that wants no password")
	}
	require.ErrorIs(t, err, pgmq.ErrAuthentication)
	require.ErrorContains(t, err, "check user and password")
	requireNoSecret(t, err)
}

// Names of topics and groups are in the names of tables, in comments on them, in bindings and in messages.
func TestTopic_RunsNoSQL(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create table victim ()")
	for _, name := range []string{
		`x'; drop table victim; --`, `x"; drop table victim; --`, `x\'; drop table victim; --`, `x$1$2 {table} %s %d`, "x$$; drop table victim; --", "x); drop table victim; --",
	} {
		plain, grouped := openAt(t, database, pgmq.Config{}), group(t, database, name)
		for _, client := range []*pgmq.Client{plain, grouped} {
			messages, err := client.Subscribe(t.Context(), name)
			require.NoError(t, err, name)
			require.NoError(t, client.Publish(name, message.NewMessage(name, []byte(`{"a":"'; drop table victim; --"}`))), name)
			msg := receive(t, messages)
			require.Equal(t, name, msg.UUID)
			backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: name + "_dead", Metadata: message.Metadata{backend.DeadLetterReason: name, backend.DeadLetterTopic: name}})
			pgtest.Eventually(t, patience, "a dead letter", func() bool {
				letters, err := plain.DeadLetters(t.Context(), name+"_dead", backend.DeadLetterSelection{Limit: 10})
				return err == nil && len(letters) > 0
			})
			_, err = redrive(t.Context(), client, name+"_dead", 10, name)
			require.NoError(t, err)
			receive(t, messages).Ack()
			_, err = client.Metrics(t.Context(), name)
			require.NoError(t, err)
			_, err = client.PurgeQueue(t.Context(), name)
			require.NoError(t, err)
		}
	}
	requireCount(t, pool, "pg_class where relname = 'victim'", 1)
}

func TestGrants_NamedInErrorsSuffice(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	admin := openAt(t, database, pgmq.Config{})
	require.NoError(t, admin.SubscribeInitialize("t"))
	const usage, bindings = "grant usage on schema pgmq to {role}", "grant select on pgmq.topic_bindings to {role}"
	noCreate := pgmq.Config{
		Publisher:  pgmq.PublisherConfig{NoCreate: true},
		Subscriber: pgmq.SubscriberConfig{NoCreate: true},
	}

	stranger := openAt(t, pgtest.Role(t, database, usage), noCreate)
	err := stranger.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	require.ErrorContains(t, err, `GRANT SELECT ON pgmq.topic_bindings`)
	reader := openAt(t, pgtest.Role(t, database, usage, bindings), noCreate)
	err = reader.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, `GRANT INSERT (vt, message, headers) ON "pgmq"."q_t"`)
	_, err = stranger.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, `"pgmq"."q_t"`)

	publisher := openAt(t, pgtest.Role(t, database, usage, bindings, "grant insert (vt, message, headers) on pgmq.q_t to {role}"), noCreate)
	publish(t, publisher, "a")
	_, err = publisher.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrPermission)

	consumer := openAt(t, pgtest.Role(t, database, usage, "grant select, update, delete on pgmq.q_t to {role}"), noCreate)
	receive(t, subscribe(t, consumer)).Ack()
	require.ErrorIs(t, consumer.Publish("t", message.NewMessage("1", nil)), pgmq.ErrPermission)

	creator := openAt(t, pgtest.Role(t, database, usage, bindings), pgmq.Config{})
	require.ErrorIs(t, creator.Publish("new", message.NewMessage("1", nil)), pgmq.ErrPermission)
}

func TestTopic_WhenInvalidIsRefused(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	for _, topic := range []string{"", "\x00", "\xff"} {
		err := client.Publish(topic, message.NewMessage("1", nil))
		require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
		require.ErrorIs(t, err, pgmq.ErrRejected)
		var refused *backend.RefusedError
		require.ErrorAs(t, err, &refused, "as on every backend")
		require.NotContains(t, err.Error(), refused.Remedy)
		_, err = client.Subscribe(t.Context(), topic)
		require.ErrorIs(t, err, pgmq.ErrInvalidTopic)
	}
}

func TestNoCreate_RefusesMissingTopic(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{
		Publisher:  pgmq.PublisherConfig{NoCreate: true},
		Subscriber: pgmq.SubscriberConfig{NoCreate: true},
	})
	err := client.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	_, err = client.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrQueueNotFound)
	require.ErrorContains(t, err, "pgmq.create('t')")
}

func TestPublish_RecreatesDroppedQueue(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	publish(t, client, "a")
	execute(t, pool, "select pgmq.drop_queue('t')")
	publish(t, client, "b")
	require.Equal(t, 1, get[int](t, pool, "select count(*) from pgmq.q_t"))
}

// unreachablePool returns a pool that connects to nothing.
func unreachablePool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), "postgres://ada@127.0.0.1:1/none")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestConfig_RefusesInvalidFields(t *testing.T) {
	t.Parallel()
	pool := unreachablePool(t)
	for field, config := range map[string]pgmq.Config{
		"MaxPayloadBytes": {Publisher: pgmq.PublisherConfig{MaxPayloadBytes: -1}},
		"Lease":           {Subscriber: pgmq.SubscriberConfig{Lease: time.Millisecond}},
		"MaxExtension":    {Subscriber: pgmq.SubscriberConfig{MaxExtension: -1}},
		"NackDelay":       {Subscriber: pgmq.SubscriberConfig{NackDelay: -1}},
		"DrainTimeout":    {Subscriber: pgmq.SubscriberConfig{DrainTimeout: -1}},
		"PollInterval":    {Subscriber: pgmq.SubscriberConfig{PollInterval: -1}},
		"MaxInFlight":     {Subscriber: pgmq.SubscriberConfig{MaxInFlight: -1}},
		"MaxMessageBytes is 64 bytes, of which headers alone may have 131072; set it to 0 for the default, 64 MiB, or at least 262144 bytes": {
			Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: 64},
		},
		"MaxMessageBytes is -1 bytes":          {Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: -1}},
		"MaxMessageBytes is 262143 bytes":      {Subscriber: pgmq.SubscriberConfig{MaxMessageBytes: 1<<18 - 1}},
		"MaxInFlightBytes":                     {Subscriber: pgmq.SubscriberConfig{MaxInFlightBytes: -1}},
		"MaxConns":                             {Subscriber: pgmq.SubscriberConfig{MaxConns: 1}},
		"MaxConns is 4294967297":               {Subscriber: pgmq.SubscriberConfig{MaxConns: 1<<32 + 1}},
		`Group is "a\x00b": it contains a NUL`: {Subscriber: pgmq.SubscriberConfig{Group: "a\x00b"}},
		`Group is "a\xff": it is not UTF-8`:    {Subscriber: pgmq.SubscriberConfig{Group: "a\xff"}},
		`Group is "` + strings.Repeat("g", 97) + `…": it has 5000 bytes, and the limit is 1024`: {Subscriber: pgmq.SubscriberConfig{Group: strings.Repeat("g", 5000)}},
	} {
		_, err := pgmq.New(pool, &config)
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig, field)
		require.ErrorContains(t, err, field)
		if config.Publisher == (pgmq.PublisherConfig{}) {
			_, err = pgmq.NewSubscriber(pool, &config.Subscriber, nil)
			require.ErrorContains(t, err, field)
		}
	}
	_, err := pgmq.NewPublisher(nil, nil)
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
	_, err = pgmq.NewSubscriber(nil, nil, nil)
	require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
}

func TestWithTx_RefusesNilTransactionWithRemedy(t *testing.T) {
	t.Parallel()
	pool := unreachablePool(t)
	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	for remedy, publisher := range map[string]message.Publisher{"pgmq.TxFromContext(ctx)": client.WithTx(nil), "BeginTx": client.WithSQLTx(nil)} {
		err = publisher.Publish("t", message.NewMessage("1", nil))
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, "the transaction is nil")
		require.ErrorContains(t, err, remedy)
	}
}

func TestPublish_RefusesNilMessage(t *testing.T) {
	t.Parallel()
	pool := unreachablePool(t)
	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	for _, publisher := range []message.Publisher{client, client.WithTx(nil), client.WithSQLTx(nil)} {
		for at, messages := range [][]*message.Message{{nil}, {message.NewMessage("good", nil), nil}} {
			err = publisher.Publish("t", messages...)
			require.ErrorIs(t, err, pgmq.ErrInvalidMessage)
			require.EqualError(t, err, fmt.Sprintf(
				`pgmq: publish to "t": invalid message: number %d of %[1]d is nil; nothing was stored; publish what message.NewMessage returns`, at+1))
		}
	}
}

func TestClient_ReportsUnreachableServerOnFirstUse(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://user:"+canary+"@"+closedPort(t)+"/db")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := pgmq.New(pool, nil)
	require.NoError(t, err)
	err = client.Publish("t", message.NewMessage("1", nil))
	require.ErrorIs(t, err, pgmq.ErrUnreachable)
	require.ErrorIs(t, err, pgmq.ErrRejected)
	requireNoSecret(t, err)
	_, err = client.Subscribe(t.Context(), "t")
	require.ErrorIs(t, err, pgmq.ErrUnreachable)
	requireNoSecret(t, err)
	require.NoError(t, client.Close())
}

func TestOpen_RefusesEmptyURLWithoutEnvironment(t *testing.T) {
	for _, name := range []string{"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE"} {
		t.Setenv(name, "")
	}
	for _, blank := range []string{"", " ", "\n"} {
		_, err := pgmq.Open(t.Context(), blank, nil)
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig)
		require.ErrorContains(t, err, "the database URL is empty")
	}

	database := pgtest.Database(t)
	u, err := url.Parse(database)
	require.NoError(t, err)
	password, _ := u.User.Password()
	for name, value := range map[string]string{
		"PGHOST": u.Hostname(), "PGPORT": u.Port(), "PGUSER": u.User.Username(), "PGPASSWORD": password, "PGDATABASE": u.Path[1:],
	} {
		t.Setenv(name, value)
	}
	client, err := pgmq.Open(t.Context(), "", nil)
	require.NoError(t, err)
	require.NoError(t, client.Close())
}
