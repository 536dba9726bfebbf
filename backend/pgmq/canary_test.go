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

// guarded is a database whose role has the canary as its password, queues "t",
// "dead" and "ezq" in it, and all that is logged about them.
type guarded struct {
	*everything
	url  string
	role string
	pool *pgxpool.Pool // of the owner
}

func guard(t *testing.T) *guarded {
	t.Helper()
	database := pgtest.Database(t)
	g := &guarded{everything: &everything{}, pool: pgtest.Pool(t, database)}
	for _, queue := range []string{"t", "dead", "ezq"} {
		execute(t, g.pool, fmt.Sprintf("select pgmq.create('%s')", queue))
	}
	u, err := url.Parse(pgtest.Role(t, database, "grant all on schema pgmq to {role}",
		"grant all on all tables in schema pgmq to {role}", "grant all on all sequences in schema pgmq to {role}"))
	require.NoError(t, err)
	g.role = u.User.Username()
	execute(t, g.pool, fmt.Sprintf("alter role %s password '%s'", g.role, canary))
	g.url = withPassword(t, u.String(), canary)
	return g
}

func (g *guarded) config() *pgmq.Config {
	return &pgmq.Config{
		Logger:     g.logger(),
		Publisher:  pgmq.PublisherConfig{NoCreate: true, MaxPayloadBytes: 10_000},
		Subscriber: pgmq.SubscriberConfig{NoCreate: true, Lease: time.Second, MaxMessageBytes: 1 << 18, PollInterval: 50 * time.Millisecond},
	}
}

func secretMessage() *message.Message {
	msg := message.NewMessage(watermill.NewUUID(), []byte(`"`+confidential+`"`))
	msg.Metadata.Set("authorization", confidential)
	return msg
}

// end ends all connections of the role.
func (g *guarded) end(t *testing.T) {
	t.Helper()
	execute(t, g.pool, fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where usename = '%s'", g.role))
}

type sensitive struct {
	Card int
	Made time.Time
}

func (sensitive) EventName() string { return "Sensitive" }

// Each of these provokes a fault, and waits until it has been noticed.
func TestNoLogShowsAPasswordOrAPayload(t *testing.T) {
	t.Parallel()
	for name, provoke := range map[string]func(*testing.T, *guarded){
		"nobody listens":                  nobodyListens,
		"the password is wrong":           wrongPassword,
		"connections are terminated":      terminated,
		"the server is away for a while":  away,
		"the role has lost its rights":    revoked,
		"a row that is refused":           refusedRow,
		"a message is too large":          tooLarge,
		"messages that cannot be read":    unreadable,
		"PostgreSQL quotes what it reads": quoted,
		"a dead letter":                   deadLetter,
		"a dead letter that cannot be":    noDeadLetter,
		"what a router cannot make of it": misunderstood,
		"Watermill's router":              watermillRouter,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard(t)
			t.Cleanup(func() { g.requireNoSecret(t) }) // what Close says too
			provoke(t, g)
		})
	}
}

func nobodyListens(t *testing.T, g *guarded) {
	pool, err := pgxpool.New(t.Context(), "postgres://user:"+canary+"@"+closedPort(t)+"/db")
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	client, err := pgmq.New(pool, g.config())
	require.NoError(t, err)
	requireConfidential(t, client.Publish("t", secretMessage()))
	_, err = client.Subscribe(t.Context(), "t")
	requireConfidential(t, err)
	router := ezq.NewRouter(client, &ezq.Config{Logger: g.logger()})
	ezq.Handle(router, func(context.Context, sensitive) error { return nil })
	requireConfidential(t, router.Run(t.Context()))
	require.NoError(t, client.Close())
}

func wrongPassword(t *testing.T, g *guarded) {
	execute(t, g.pool, fmt.Sprintf("alter role %s password 'another'", g.role))
	_, err := pgmq.Open(t.Context(), g.url, g.config())
	if err == nil {
		t.Skip("EZQ_TEST_DATABASE is a server that lets everybody in without a password")
	}
	require.ErrorIs(t, err, pgmq.ErrAuthentication)
	requireConfidential(t, err)
}

func terminated(t *testing.T, g *guarded) {
	client := openAt(t, g.url, *g.config())
	messages := subscribe(t, client)
	requireListening(t, g.pool)
	execute(t, g.pool, "alter role "+g.role+" nologin")
	g.end(t)
	g.requireLogged(t, "the listening connection ended")
	g.requireLogged(t, "cannot fetch messages")
	requireConfidential(t, client.Publish("t", secretMessage()))
	execute(t, g.pool, "alter role "+g.role+" login")
	pgtest.Eventually(t, patience, "it works again", func() bool { return client.Publish("t", secretMessage()) == nil })
	receive(t, messages).Ack()
}

func away(t *testing.T, g *guarded) {
	proxy, database := throughProxy(t, g.url)
	client := openAt(t, database, *g.config())
	require.NoError(t, client.Publish("t", secretMessage(), secretMessage()))
	messages := subscribe(t, client)
	first, second := receive(t, messages), receive(t, messages)
	proxy.Refuse()
	proxy.ResetAll()
	first.Ack()
	requireConfidential(t, client.Publish("t", secretMessage()))
	g.requireLogged(t, "cannot store which messages are done")
	g.requireLogged(t, "cannot fetch messages")
	<-second.Context().Done()
	requireConfidential(t, context.Cause(second.Context()))
	proxy.Heal()
	second.Ack()
}

func revoked(t *testing.T, g *guarded) {
	client := openAt(t, g.url, *g.config())
	require.NoError(t, client.Publish("t", secretMessage()))
	msg := receive(t, subscribe(t, client))
	execute(t, g.pool, "revoke all on pgmq.q_t from "+g.role)
	err := client.Publish("t", secretMessage())
	require.ErrorIs(t, err, pgmq.ErrPermission)
	requireConfidential(t, err)
	msg.Ack()
	g.requireLogged(t, "permission denied")
	_, err = client.Subscribe(t.Context(), "t")
	requireConfidential(t, err)
}

func refusedRow(t *testing.T, g *guarded) {
	execute(t, g.pool, "alter table pgmq.q_t add check (message is null)")
	err := openAt(t, g.url, *g.config()).Publish("t", secretMessage())
	require.ErrorIs(t, err, pgmq.ErrRejected)
	requireConfidential(t, err)
	require.Contains(t, fmt.Sprint(tree(err)), confidential, "PostgreSQL quotes the row: it is there to be shown")
}

func tooLarge(t *testing.T, g *guarded) {
	config := g.config()
	config.Publisher.MaxPayloadBytes = 4
	client := openAt(t, g.url, *config)
	requireConfidential(t, client.Publish("t", secretMessage()))
	msg := message.NewMessage("1", nil)
	msg.Metadata.Set("authorization", confidential+"\x00")
	requireConfidential(t, client.Publish("t", msg))
	msg.Metadata.Set("authorization", confidential+"\xff")
	requireConfidential(t, client.Publish("t", msg))
}

func unreadable(t *testing.T, g *guarded) {
	large := fmt.Sprintf(`select pgmq.send('t', to_jsonb(repeat('%s', 30000)), '{"k": "%s"}'::jsonb)`, confidential, confidential)
	execute(t, g.pool, large)
	subscribe(t, openAt(t, g.url, *g.config()))
	g.requireLogged(t, "was moved to the archive")
	execute(t, g.pool, "revoke all on pgmq.a_t from "+g.role)
	execute(t, g.pool, large)
	g.requireLogged(t, "is put aside")
}

func quoted(t *testing.T, g *guarded) {
	refuseToRead(t, g.pool, "54000")
	execute(t, g.pool, "select pgmq.send('t', '\""+unreadableText+confidential+"\"')")
	subscribe(t, openAt(t, g.url, *g.config()))
	g.requireLogged(t, "was moved to the archive")
	execute(t, g.pool, "select pgmq.send('dead', '\""+unreadableText+confidential+"\"')")
	client := openAt(t, g.url, *g.config())
	letters, err := client.DeadLetters(t.Context(), "dead", 1)
	require.NoError(t, err)
	requireConfidential(t, letters[0].Err)
	pg, ok := errors.AsType[*pgconn.PgError](letters[0].Err)
	require.True(t, ok)
	require.Contains(t, pg.Detail, confidential, "it is there to be shown")
}

func deadLetter(t *testing.T, g *guarded) {
	client := openAt(t, g.url, *g.config())
	ctx, stop := context.WithCancel(t.Context())
	router := ezq.NewRouter(client, &ezq.Config{Logger: g.logger()})
	router.Use(middleware.Poison{Topic: "dead", Logger: g.logger()}.Middleware)
	ezq.Handle(router, func(context.Context, sensitive) error { return ezq.Permanent(errors.New("it will never work")) })
	_, err := g.pool.Exec(ctx, `select pgmq.send('ezq', $1::jsonb)`, `{"_type":"Sensitive","Card":1,"x":"`+confidential+`"}`)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	requireDead(t, g.pool)
	stop()
	require.NoError(t, <-ended)
	g.requireLogged(t, "it will never work")
}

func noDeadLetter(t *testing.T, g *guarded) {
	client := openAt(t, g.url, *g.config())
	require.NoError(t, client.Publish("t", secretMessage()))
	execute(t, g.pool, "alter table pgmq.q_dead add constraint closed check (message is null)")
	messages := subscribe(t, client)
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "\xff"}))
	g.requireLogged(t, "a dead letter cannot be moved")
	require.True(t, backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "dead"}))
	refused := receive(t, messages)
	g.requireLogged(t, "violates check constraint")
	execute(t, g.pool, "alter table pgmq.q_dead drop constraint closed")
	require.True(t, backend.DeadLetter(refused, backend.DeadLetterTarget{Topic: "dead"}))
	requireDead(t, g.pool)
}

func misunderstood(t *testing.T, g *guarded) {
	for _, payload := range []string{
		`"` + confidential + `"`, `{"_type":"Sensitive","Card":"` + confidential + `"}`, `{"_type":"Sensitive","Card":7}`,
		`{"_type":"Unknown","Card":"` + confidential + `"}`, `{"_type":"Sensitive","Made":"` + confidential + `"}`,
		`{"_type":"EZQEndEvent","timeout":"` + confidential + `"}`,
	} {
		_, err := g.pool.Exec(t.Context(), "select pgmq.send('ezq', $1::jsonb)", payload)
		require.NoError(t, err)
	}
	router := ezq.NewRouter(openAt(t, g.url, *g.config()), &ezq.Config{Logger: g.logger(), Concurrency: 1, UnknownFor: 1})
	ezq.Handle(router, func(context.Context, sensitive) error { panic("a handler's own fault") })
	_ = router.Run(t.Context())
	for _, line := range []string{"event failed", "no handler for event", "a handler's own fault", "no valid timeout", "is not a time in RFC 3339"} {
		g.requireLogged(t, line)
	}
}

func watermillRouter(t *testing.T, g *guarded) {
	pool := pgtest.Pool(t, g.url)
	logger := watermill.NewSlogLogger(g.logger())
	subscriber, err := pgmq.NewSubscriber(pool, &g.config().Subscriber, logger)
	require.NoError(t, err)
	publisher, err := pgmq.NewPublisher(pool, &g.config().Publisher)
	require.NoError(t, err)
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	require.NoError(t, err)
	router.AddConsumerHandler("h", "t", subscriber, func(*message.Message) error { return errors.New("it has not worked") })
	ended := make(chan error, 1)
	go func() { ended <- router.Run(t.Context()) }()
	<-router.Running()
	require.NoError(t, publisher.Publish("t", secretMessage()))
	g.requireLogged(t, "it has not worked")
	execute(t, g.pool, "alter role "+g.role+" nologin")
	g.end(t)
	g.requireLogged(t, "cannot fetch messages")
	requireConfidential(t, publisher.Publish("t", secretMessage()))
	require.NoError(t, router.Close())
	require.NoError(t, <-ended)
}
