package pgmq_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// trapped is a database in which mallory, who may create tables, has written a function that
// steals with the rights of whoever runs it.
type trapped struct {
	database string
	pool     *pgxpool.Pool
	mallory  *pgx.Conn
	role     string
}

func trap(t *testing.T) *trapped {
	t.Helper()
	tr := &trapped{database: pgtest.Database(t)}
	tr.pool = pgtest.Pool(t, tr.database)
	execute(t, tr.pool, "grant create on schema public to public") // the default before PostgreSQL 15
	url := pgtest.Role(t, tr.database, append(grantsOf(t, "ezq_owner"), "grant usage on schema public to {role}")...)
	var err error
	tr.mallory, err = pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, tr.mallory.Close(context.WithoutCancel(t.Context()))) })
	tr.role = tr.mallory.Config().User
	tr.lay(t, "create table public.loot (who text)", "grant all on public.loot to public",
		"create function public.steal() returns trigger language plpgsql as $$ begin insert into public.loot values (current_user); return coalesce(new, old); end $$")
	return tr
}

func (tr *trapped) lay(t *testing.T, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		_, err := tr.mallory.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

func (tr *trapped) queue(t *testing.T, name string) {
	t.Helper()
	tr.lay(t, "select pgmq.create('"+name+"')", "grant all on pgmq.q_"+name+" to public",
		"create trigger t before insert or update or delete on pgmq.q_"+name+" for each row execute function public.steal()")
}

func (tr *trapped) requireNothingStolen(t *testing.T) {
	t.Helper()
	requireCount(t, tr.pool, "public.loot", 0)
}

func requireRefusedAsForeign(t *testing.T, err error, tr *trapped) {
	t.Helper()
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, "belongs to the role "+tr.role)
	require.ErrorContains(t, err, "OWNER TO")
}

func TestAKeyStoreThatAStrangerHasMadeRunsNoCode(t *testing.T) {
	t.Parallel()
	tr := trap(t)
	tr.lay(t, "create table public.ezq_seen (key bytea primary key, until timestamptz not null)", "grant all on public.ezq_seen to public",
		"create trigger t before insert on public.ezq_seen for each row execute function public.steal()")
	client := openAt(t, tr.database, pgmq.Config{})
	_, err := client.KeyStore(t.Context(), "ezq_seen")
	requireRefusedAsForeign(t, err, tr)
}

func TestAQueueThatAStrangerHasMadeRunsNoCode(t *testing.T) {
	t.Parallel()
	tr := trap(t)
	tr.queue(t, "orders")
	client := openAt(t, tr.database, pgmq.Config{})
	requireRefusedAsForeign(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))), tr)
	_, err := client.Subscribe(t.Context(), "orders")
	requireRefusedAsForeign(t, err, tr)

	tr.queue(t, "listening") // bound to everything
	execute(t, tr.pool, "select pgmq.create('payments')")
	tr.lay(t, "select pgmq.bind_topic('#', 'listening')")
	for _, config := range []pgmq.PublisherConfig{{}, {NoCreate: true}} {
		client := openAt(t, tr.database, pgmq.Config{Publisher: config})
		requireRefusedAsForeign(t, client.Publish("payments", message.NewMessage("1", []byte("{}"))), tr)
	}
	tr.requireNothingStolen(t)
}

func TestADeadLetterIsNotGivenToAQueueThatAStrangerHasMade(t *testing.T) {
	t.Parallel()
	for _, noCreate := range []bool{false, true} {
		tr := trap(t)
		tr.queue(t, "orders_dead")
		execute(t, tr.pool, "select pgmq.create('orders')")
		log := &everything{}
		client := openAt(t, tr.database, pgmq.Config{
			Subscriber: pgmq.SubscriberConfig{NoCreate: noCreate}, Logger: slog.New(slog.NewTextHandler(log, nil)),
		})
		require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
		messages, err := client.Subscribe(t.Context(), "orders")
		require.NoError(t, err)
		backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
		pgtest.Eventually(t, patience, "a log of it", func() bool { return strings.Contains(log.String(), "belongs to the role "+tr.role) })
		tr.requireNothingStolen(t)
	}
}

func TestATableOfAStrangerIsToldOfOnce(t *testing.T) {
	t.Parallel()
	tr := trap(t)
	tr.lay(t, "select pgmq.create('orders')")
	log := &everything{}
	client := openAt(t, tr.database, pgmq.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	for range 3 {
		require.NoError(t, client.SubscribeInitialize("orders"))
	}
	require.Equal(t, 2, strings.Count(log.String(), "owner="+tr.role), "the queue and its archive: %s", log.String())
}

func TestOwnersThatAreTrustedAreNotToldOf(t *testing.T) {
	t.Parallel()
	tr := trap(t)
	tr.queue(t, "orders") // an administrator of queues, who has a trigger of his own,
	tr.queue(t, "orders_dead")
	execute(t, tr.pool, "delete from public.loot")
	log := &everything{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	use := func(url string, noCreate bool) {
		client := openAt(t, url, pgmq.Config{
			Publisher: pgmq.PublisherConfig{NoCreate: noCreate}, Subscriber: pgmq.SubscriberConfig{NoCreate: noCreate}, Logger: logger,
		})
		require.NoError(t, client.Publish("orders", message.NewMessage("1", []byte("{}"))))
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		messages, err := client.Subscribe(ctx, "orders")
		require.NoError(t, err)
		before := get[int](t, tr.pool, "select count(*) from pgmq.q_orders_dead")
		backend.DeadLetter(receive(t, messages), backend.DeadLetterTarget{Topic: "orders_dead"})
		pgtest.Eventually(t, patience, "a dead letter", func() bool {
			return get[int](t, tr.pool, "select count(*) from pgmq.q_orders_dead") > before
		})
	}
	grants := append(grantsOf(t, "ezq_consumer"), grantsOf(t, "ezq_publisher")...)
	tr.lay(t, "grant all on pgmq.a_orders to public")
	use(pgtest.Role(t, tr.database, grants...), true)                                         // as a program with NoCreate says,
	use(pgtest.Role(t, tr.database, append(grants, "grant "+tr.role+" to {role}")...), false) // or one that is a member,
	execute(t, tr.pool, "alter schema pgmq owner to "+tr.role)
	use(pgtest.Role(t, tr.database, grants...), false) // or whoever owns the schema
	require.Empty(t, log.String())
}
