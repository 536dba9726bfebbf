package pgmq_test

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// onUpdate is a trigger that does so with each UPDATE of a row.
func onUpdate(do string) string {
	return "create function on_update() returns trigger language plpgsql as $$ begin " + do + " return new; end $$; " +
		"create trigger on_update before update on pgmq.q_t for each row execute function on_update()"
}

// openWith opens a client with a queue of messages, of which bad ones come first and last.
func openWith(t *testing.T, badFirst, good, badLast int, config pgmq.Config) (*pgmq.Client, *pgxpool.Pool) {
	t.Helper()
	client, pool := open(t, config)
	require.NoError(t, client.SubscribeInitialize("t"))
	for _, some := range []struct {
		payload string
		n       int
	}{{`{"Bad":1}`, badFirst}, {`{}`, good}, {`{"Bad":2}`, badLast}} {
		if some.n > 0 {
			publishJSON(t, client, some.payload, some.n)
		}
	}
	return client, pool
}

// openStore returns the store of such a queue.
func openStore(t *testing.T, badFirst, good, badLast int, config pgmq.Config) (subscription.Store, *pgxpool.Pool) {
	t.Helper()
	client, pool := openWith(t, badFirst, good, badLast, config)
	store, err := client.Store(t.Context(), "t")
	require.NoError(t, err)
	return store, pool
}

// requireClaimed claims until so many messages have come. On a busy machine the answer to a claim may be lost, and what
// it has leased comes back.
func requireClaimed(t *testing.T, store subscription.Store, limit, want int) {
	t.Helper()
	claimed := map[int64]bool{}
	pgtest.Eventually(t, patience, fmt.Sprintf("%d messages are claimed", want), func() bool {
		claim, err := store.Claim(t.Context(), nil, limit, time.Minute)
		if err == nil {
			for _, lease := range claim.Leases {
				claimed[lease.ID] = true
			}
		}
		return len(claimed) == want
	})
}

// A trigger can give any code, also one that tells of the state of the server.
func TestClaim_PassesByARowThatIsRefusedWithAnyCode(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"P0001", "40001", "57014", "55P03", "08006", "42501", "42703", "53200", "XX000"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			store, pool := openStore(t, 1, 20, 0, pgmq.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
			execute(t, pool, onUpdate("if new.message ? 'Bad' then raise 'not today' using errcode = '"+code+"'; end if;"))
			requireClaimed(t, store, 10, 20)
			requireCount(t, pool, "pgmq.q_t where message ? 'Bad' and read_ct = 0", 1)
			require.Contains(t, log.String(), "msg_id=1 ")
			require.Contains(t, log.String(), "change what is refused, or remove that")
		})
	}
}

// A policy with WITH CHECK is of the role, and gives 42501.
func TestClaim_PassesByARowThatAPolicyKeeps(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	owner := openAt(t, database, pgmq.Config{})
	require.NoError(t, owner.SubscribeInitialize("t"))
	publishJSON(t, owner, `{"Bad":1}`, 1)
	publishJSON(t, owner, `{}`, 20)
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant select, update, delete on pgmq.q_t to {role}")
	execute(t, pgtest.Pool(t, database), "alter table pgmq.q_t enable row level security; create policy s on pgmq.q_t for select using (true); "+
		"create policy u on pgmq.q_t for update using (true) with check (not message ? 'Bad')")
	store, err := openAt(t, role, pgmq.Config{Subscriber: pgmq.SubscriberConfig{NoCreate: true}}).Store(t.Context(), "t")
	require.NoError(t, err)
	requireClaimed(t, store, 10, 20)
}

// What tells of the state of the server is no row's fault, if the row is leased when it is tried again.
func TestClaim_PassesByNothingThatIsAcceptedTheNextTime(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	store, pool := openStore(t, 1, 20, 0, pgmq.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	execute(t, pool, "create sequence tries; "+onUpdate("if new.message ? 'Bad' and nextval('tries') <= 3 then raise 'not now' using errcode = '40001'; end if;"))
	requireClaimed(t, store, 21, 21)
	require.Empty(t, log.String())
}

func TestClaim_PassesByARowWhoseUpdateIsSlow(t *testing.T) {
	t.Parallel()
	for mode, config := range map[string]pgmq.SubscriberConfig{"by default": {}, "with LeaseOnly": {LeaseOnly: true}} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			log := &logRecorder{}
			client, pool := openWith(t, 1, 60, 0, pgmq.Config{Subscriber: config, Logger: slog.New(slog.NewTextHandler(log, nil))})
			execute(t, pool, onUpdate("if new.message ? 'Bad' then perform pg_sleep(60); end if;"))
			handled := handleSlowly(t, client)
			pgtest.Eventually(t, patience, "the good ones are handled", func() bool {
				return get[int](t, pool, "select count(*) from pgmq.q_t where not message ? 'Bad'") == 0
			})
			if handled.bad.Load() == 0 { // else it was locked, and acked in time
				require.Contains(t, log.String(), "look for a trigger on")
				require.EqualValues(t, 1, client.Stats()["t"].Quarantined)
			}
		})
	}
}

// A thousand rows of 10 ms are more than there is time for.
func TestClaim_TakesFewerMessagesWhereEachUpdateIsSlow(t *testing.T) {
	t.Parallel()
	store, pool := openStore(t, 0, 200, 1, pgmq.Config{})
	execute(t, pool, onUpdate("perform pg_sleep(0.01); if new.message ? 'Bad' then raise 'not today'; end if;"))
	requireClaimed(t, store, 1000, 200)
}

// PostgreSQL reports no error then.
func TestClaim_PassesByRowsThatATriggerKeeps(t *testing.T) {
	t.Parallel()
	log := &logRecorder{}
	store, pool := openStore(t, 30, 20, 0, pgmq.Config{Logger: slog.New(slog.NewTextHandler(log, nil))})
	execute(t, pool, onUpdate("if new.message ? 'Bad' then return null; end if;"))
	requireClaimed(t, store, 10, 20)
	require.Contains(t, log.String(), "a BEFORE UPDATE trigger that returns NULL")
	execute(t, pool, "drop trigger on_update on pgmq.q_t")
	requireClaimed(t, store, 10, 30)
}

func TestClaim_FailsWhereATriggerKeepsAllRows(t *testing.T) {
	t.Parallel()
	store, pool := openStore(t, 0, 20, 0, pgmq.Config{})
	execute(t, pool, onUpdate("return null;"))
	pgtest.Eventually(t, patience, "a claim says why it brings nothing", func() bool {
		_, err := store.Claim(t.Context(), nil, 10, time.Minute)
		return err != nil
	})
	_, err := store.Claim(t.Context(), nil, 10, time.Minute)
	require.ErrorContains(t, err, "a BEFORE UPDATE trigger that returns NULL")
	execute(t, pool, "drop trigger on_update on pgmq.q_t")
	requireClaimed(t, store, 10, 20)
}

func TestClaim_PassesByRefusedRowsBeforeAndAfterGoodOnes(t *testing.T) {
	t.Parallel()
	store, pool := openStore(t, 900, 20, 1, pgmq.Config{})
	execute(t, pool, refusals()["a CHECK"].begins)
	requireClaimed(t, store, 10, 20)
}

// A search ends after two seconds. The next one goes on where it has ended, or it would never come to the good ones.
func TestClaim_PassesByMoreRefusedRowsThanOneSearchCanTry(t *testing.T) {
	t.Parallel()
	store, pool := openStore(t, 900, 20, 1, pgmq.Config{})
	execute(t, pool, onUpdate("if new.message ? 'Bad' then perform pg_sleep(0.005); raise 'not today'; end if;"))
	requireClaimed(t, store, 10, 20)
}

// An idle queue has no other row that could show that the row is to blame.
func TestSubscription_IsNotFailingForOneRefusedRow(t *testing.T) {
	t.Parallel()
	client, pool := openWith(t, 1, 0, 0, pgmq.Config{Subscriber: pgmq.SubscriberConfig{LeaseOnly: true}})
	execute(t, pool, refusals()["a trigger"].begins)
	_ = subscribe(t, client)
	pgtest.Eventually(t, patience, "it is passed by", func() bool { return client.Stats()["t"].Quarantined == 1 })
	pgtest.Eventually(t, patience, "messages can be fetched", func() bool { return client.Stats()["t"].Failing == nil })
}
