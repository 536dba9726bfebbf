package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

// secretEnv is a database whose role has the canary as its password, queues "t",
// "dead" and "ezq" in it, and all that is logged about them.
type secretEnv struct {
	*logRecorder
	url  string
	role string
	pool *pgxpool.Pool // of the owner
}

func newSecretEnv(t *testing.T) *secretEnv {
	t.Helper()
	database := pgtest.Database(t)
	env := &secretEnv{logRecorder: &logRecorder{}, pool: pgtest.Pool(t, database)}
	for _, queue := range []string{"t", "dead", "ezq"} {
		execute(t, env.pool, fmt.Sprintf("select pgmq.create('%s')", queue))
	}
	u, err := url.Parse(pgtest.Role(t, database, "grant all on schema pgmq to {role}",
		"grant all on all tables in schema pgmq to {role}", "grant all on all sequences in schema pgmq to {role}"))
	require.NoError(t, err)
	env.role = u.User.Username()
	execute(t, env.pool, fmt.Sprintf("alter role %s password '%s'", env.role, canary))
	env.url = withPassword(t, u.String(), canary)
	return env
}

func (env *secretEnv) config() *pgmq.Config {
	return &pgmq.Config{
		Logger:     env.logger(),
		Publisher:  pgmq.PublisherConfig{NoCreate: true, MaxPayloadBytes: 10_000},
		Subscriber: pgmq.SubscriberConfig{NoCreate: true, Lease: time.Second, MaxMessageBytes: 1 << 18, PollInterval: 50 * time.Millisecond},
	}
}

func secretMessage() *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), []byte(`"`+confidential+`"`))
	msg.Metadata.Set("authorization", confidential)
	return msg
}

// terminateAll ends all connections of the role.
func (env *secretEnv) terminateAll(t *testing.T) {
	t.Helper()
	execute(t, env.pool, fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where usename = '%s'", env.role))
}

type sensitive struct {
	Card int
	Made time.Time
}

func (sensitive) EventName() string { return "Sensitive" }

// Each of these provokes a fault, and waits until it has been noticed.
func TestLog_ShowsNoPasswordOrPayload(t *testing.T) {
	t.Parallel()
	for name, provoke := range map[string]func(*testing.T, *secretEnv){
		"the server is unreachable":         serverUnreachable,
		"the password is wrong":             wrongPassword,
		"connections are terminated":        terminated,
		"the server is away for a while":    serverAway,
		"the role has lost its rights":      revoked,
		"a row is refused":                  refusedRow,
		"a message is too large":            payloadTooLarge,
		"messages cannot be read":           unreadable,
		"PostgreSQL quotes what it reads":   quoted,
		"a message becomes a dead letter":   permanentFailure,
		"a dead letter is refused":          refusedDeadLetter,
		"a payload cannot be decoded":       undecodable,
		"Watermill's router logs a failure": watermillRouter,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := newSecretEnv(t)
			t.Cleanup(func() { env.assertNoSecret(t) }) // what Close says too
			provoke(t, env)
		})
	}
}

func serverUnreachable(t *testing.T, env *secretEnv) {
	pool, err := pgxpool.New(t.Context(), "postgres://user:"+canary+"@"+closedPort(t)+"/db")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := pgmq.New(pool, env.config())
	require.NoError(t, err)
	requireConfidential(t, client.Publish("t", secretMessage()))
	_, err = client.Subscribe(t.Context(), "t")
	requireConfidential(t, err)
	router := ezq.NewRouter(client, &ezq.Config{Logger: env.logger()})
	ezq.Handle(router, func(context.Context, sensitive) error { return nil })
	requireConfidential(t, router.Run(t.Context()))
	require.NoError(t, client.Close())
}

func wrongPassword(t *testing.T, env *secretEnv) {
	execute(t, env.pool, fmt.Sprintf("alter role %s password 'another'", env.role))
	_, err := pgmq.Open(t.Context(), env.url, env.config())
	if err == nil {
		t.Skip("EZQ_TEST_DATABASE is a server that wants no password")
	}
	require.ErrorIs(t, err, pgmq.ErrAuthentication)
	requireConfidential(t, err)
}

func terminated(t *testing.T, env *secretEnv) {
	client := openAt(t, env.url, *env.config())
	messages := subscribe(t, client)
	requireListening(t, env.pool)
	execute(t, env.pool, "alter role "+env.role+" nologin")
	env.terminateAll(t)
	env.requireLogged(t, "the listening connection ended")
	env.requireLogged(t, "cannot fetch messages")
	requireConfidential(t, client.Publish("t", secretMessage()))
	execute(t, env.pool, "alter role "+env.role+" login")
	pgtest.Eventually(t, patience, "it works again", func() bool { return client.Publish("t", secretMessage()) == nil })
	receive(t, messages).Ack()
}

func serverAway(t *testing.T, env *secretEnv) {
	proxy, database := throughProxy(t, env.url)
	client := openAt(t, database, *env.config())
	require.NoError(t, client.Publish("t", secretMessage(), secretMessage()))
	messages := subscribe(t, client)
	first, second := receive(t, messages), receive(t, messages)
	proxy.Refuse()
	proxy.ResetAll()
	first.Ack()
	requireConfidential(t, client.Publish("t", secretMessage()))
	env.requireLogged(t, "cannot store outcomes")
	env.requireLogged(t, "cannot fetch messages")
	<-second.Context().Done()
	requireConfidential(t, context.Cause(second.Context()))
	proxy.Heal()
	second.Ack()
}

func revoked(t *testing.T, env *secretEnv) {
	client := openAt(t, env.url, *env.config())
	require.NoError(t, client.Publish("t", secretMessage()))
	msg := receive(t, subscribe(t, client))
	execute(t, env.pool, "revoke all on pgmq.q_t from "+env.role)
	err := client.Publish("t", secretMessage())
	require.ErrorIs(t, err, pgmq.ErrPermission)
	requireConfidential(t, err)
	msg.Ack()
	env.requireLogged(t, "permission denied")
	_, err = client.Subscribe(t.Context(), "t")
	requireConfidential(t, err)
}

func refusedRow(t *testing.T, env *secretEnv) {
	execute(t, env.pool, "alter table pgmq.q_t add check (message is null)")
	err := openAt(t, env.url, *env.config()).Publish("t", secretMessage())
	require.ErrorIs(t, err, pgmq.ErrRejected)
	requireConfidential(t, err)
	require.Contains(t, fmt.Sprint(tree(err)), confidential, "PostgreSQL quotes the row: it is there to be shown")
}

func payloadTooLarge(t *testing.T, env *secretEnv) {
	config := env.config()
	config.Publisher.MaxPayloadBytes = 4
	client := openAt(t, env.url, *config)
	requireConfidential(t, client.Publish("t", secretMessage()))
	msg := message.NewMessage("1", nil)
	msg.Metadata.Set("authorization", confidential+"\x00")
	requireConfidential(t, client.Publish("t", msg))
	msg.Metadata.Set("authorization", confidential+"\xff")
	requireConfidential(t, client.Publish("t", msg))
}

func unreadable(t *testing.T, env *secretEnv) {
	large := fmt.Sprintf(`select pgmq.send('t', to_jsonb(repeat('%s', 30000)), '{"k": "%s"}'::jsonb)`, confidential, confidential)
	execute(t, env.pool, large)
	subscribe(t, openAt(t, env.url, *env.config()))
	env.requireLogged(t, "was moved to the archive")
	execute(t, env.pool, "revoke all on pgmq.a_t from "+env.role)
	execute(t, env.pool, large)
	env.requireLogged(t, "is hidden")
}

func quoted(t *testing.T, env *secretEnv) {
	refuseToRead(t, env.pool, "54000")
	execute(t, env.pool, "select pgmq.send('t', '\""+unreadableText+confidential+"\"')")
	subscribe(t, openAt(t, env.url, *env.config()))
	env.requireLogged(t, "was moved to the archive")
	execute(t, env.pool, "select pgmq.send('dead', '\""+unreadableText+confidential+"\"')")
	client := openAt(t, env.url, *env.config())
	deadLetters, err := client.DeadLetters(t.Context(), "dead", backend.DeadLetterSelection{Limit: 1})
	require.NoError(t, err)
	requireConfidential(t, deadLetters[0].Err)
	pg, ok := errors.AsType[*pgconn.PgError](deadLetters[0].Err)
	require.True(t, ok)
	require.Contains(t, pg.Detail, confidential, "it is there to be shown")
}

func permanentFailure(t *testing.T, env *secretEnv) {
	client := openAt(t, env.url, *env.config())
	ctx, stop := context.WithCancel(t.Context())
	router := ezq.NewRouter(client, &ezq.Config{Logger: env.logger()})
	router.Use(middleware.Poison{Topic: "dead", Logger: env.logger()}.Middleware)
	ezq.Handle(router, func(context.Context, sensitive) error { return ezq.Permanent(errors.New("it will never work")) })
	_, err := env.pool.Exec(ctx, `select pgmq.send('ezq', $1::jsonb)`, `{"_type":"Sensitive","Card":1,"x":"`+confidential+`"}`)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	requireDeadLetter(t, env.pool)
	stop()
	require.NoError(t, <-ended)
	env.requireLogged(t, "it will never work")
}

func refusedDeadLetter(t *testing.T, env *secretEnv) {
	client := openAt(t, env.url, *env.config())
	require.NoError(t, client.Publish("t", secretMessage()))
	execute(t, env.pool, "alter table pgmq.q_dead add constraint closed check (message is null)")
	messages := subscribe(t, client)
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "\xff"}))
	env.requireLogged(t, "a dead letter cannot be moved")
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "dead"}))
	refused := receive(t, messages)
	env.requireLogged(t, "violates check constraint")
	execute(t, env.pool, "alter table pgmq.q_dead drop constraint closed")
	require.True(t, backend.DeadLetter(refused, backend.DeadLetterTarget{Topic: "dead"}))
	requireDeadLetter(t, env.pool)
}

func undecodable(t *testing.T, env *secretEnv) {
	for _, payload := range []string{
		`"` + confidential + `"`, `{"_type":"Sensitive","Card":"` + confidential + `"}`, `{"_type":"Sensitive","Card":7}`,
		`{"_type":"Unknown","Card":"` + confidential + `"}`, `{"_type":"Sensitive","Made":"` + confidential + `"}`,
		`{"_type":"EZQEndEvent","timeout":"` + confidential + `"}`,
	} {
		_, err := env.pool.Exec(t.Context(), "select pgmq.send('ezq', $1::jsonb)", payload)
		require.NoError(t, err)
	}
	router := ezq.NewRouter(openAt(t, env.url, *env.config()), &ezq.Config{Logger: env.logger(), Concurrency: 1, UnknownFor: 1})
	ezq.Handle(router, func(context.Context, sensitive) error { panic("a handler's own fault") })
	_ = router.Run(t.Context())
	for _, line := range []string{"event failed", "no handler for event", "a handler's own fault", "no valid timeout", "is not a time in RFC 3339"} {
		env.requireLogged(t, line)
	}
}

func watermillRouter(t *testing.T, env *secretEnv) {
	pool := pgtest.Pool(t, env.url)
	logger := watermill.NewSlogLogger(env.logger())
	subscriber, err := pgmq.NewSubscriber(pool, &env.config().Subscriber, logger)
	require.NoError(t, err)
	publisher, err := pgmq.NewPublisher(pool, &env.config().Publisher)
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	require.NoError(t, err)
	router.AddConsumerHandler("h", "t", subscriber, func(*message.Message) error { return errors.New("it has not worked") })
	ended := make(chan error, 1)
	go func() { ended <- router.Run(t.Context()) }()
	<-router.Running()
	require.NoError(t, publisher.Publish("t", secretMessage()))
	env.requireLogged(t, "it has not worked")
	execute(t, env.pool, "alter role "+env.role+" nologin")
	env.terminateAll(t)
	env.requireLogged(t, "cannot fetch messages")
	requireConfidential(t, publisher.Publish("t", secretMessage()))
	require.NoError(t, router.Close())
	require.NoError(t, <-ended)
}
