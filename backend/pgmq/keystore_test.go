package pgmq_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

var _ middleware.Store = (*pgmq.KeyStore)(nil)

func keyStore(t *testing.T, client *pgmq.Client) *pgmq.KeyStore {
	t.Helper()
	store, err := client.KeyStore(t.Context(), "ezq_seen")
	require.NoError(t, err)
	return store
}

func requireSeen(t *testing.T, store *pgmq.KeyStore, key string, want bool) {
	t.Helper()
	seen, err := store.Seen(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, want, seen, key)
}

func TestKeyStore_RemembersKeyUntilWindowEnds(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	store := keyStore(t, client)
	long := strings.Repeat("a long key ", 10_000) + "\x00"
	requireSeen(t, store, long, false)
	require.NoError(t, store.Mark(t.Context(), long, time.Hour))
	requireSeen(t, store, long, true)
	requireSeen(t, store, "another", false)
	requireSeen(t, keyStore(t, client), long, true) // another process

	execute(t, pool, "update ezq_seen set until = now()")
	requireSeen(t, store, long, false)
	require.NoError(t, store.Mark(t.Context(), long, time.Hour))
	requireSeen(t, store, long, true)
}

func TestKeyStore_DeletesExpiredKeys(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	store := keyStore(t, client)
	execute(t, pool, "insert into ezq_seen select sha256(n::text::bytea), now() from generate_series(1, 100) n")
	for i := range 100 {
		require.NoError(t, store.Mark(t.Context(), fmt.Sprint("key ", i), time.Hour))
	}
	require.Equal(t, 100, get[int](t, pool, "select count(*) from ezq_seen"))
}

func TestKeyStore_IsSharedByManyProcesses(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	execute(t, pgtest.Pool(t, database), "create schema app")
	var starting sync.WaitGroup
	for i := range 4 {
		client := openAt(t, database, pgmq.Config{})
		starting.Go(func() {
			store, err := client.KeyStore(t.Context(), "app.Seen")
			if err != nil {
				t.Error(err)
				return
			}
			for n := range 50 { // in different orders
				if err := store.Mark(t.Context(), fmt.Sprint((n*7+i*13)%50), time.Nanosecond); err != nil {
					t.Error(err)
				}
			}
		})
	}
	starting.Wait()
}

func TestKeyStore_NamesCauseOfFailedCreation(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	_, err := client.KeyStore(t.Context(), "nowhere.seen")
	require.ErrorContains(t, err, `create key store "nowhere"."seen"`)
	for _, name := range []string{"", "app.", ".seen", "a.b.c", "seen\x00", "app.\xff"} {
		_, err = client.KeyStore(t.Context(), name)
		require.ErrorIs(t, err, pgmq.ErrInvalidConfig, name)
		require.ErrorContains(t, err, `name a schema and a table, as in "app.ezq_seen"`, name)
	}
}

// The event is published twice under one id of the program's own, and handled once,
// also by a process that starts later.
func TestKeyStore_DeduplicatesAcrossRouters(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	payment := func(msg *message.Message) (string, error) { return msg.Metadata["payment"], nil }
	var handled atomic.Int32
	for range 2 {
		client := openAt(t, database, pgmq.Config{})
		router := newRouter(client, ezq.Config{})
		router.Use(middleware.Deduplicate{Store: keyStore(t, client), Key: payment}.Middleware)
		ezq.Handle(router, func(context.Context, userCreated) error { handled.Add(1); return nil })
		require.NoError(t, ezq.Publish(t.Context(), client, userCreated{}, ezq.Header("payment", "7")))
		require.NoError(t, ezq.Publish(t.Context(), client, ezq.EndEvent{}))
		require.NoError(t, router.Run(t.Context()))
	}
	require.EqualValues(t, 1, handled.Load())
}

// An ID that is not generated is as good as a name: SECURITY.md lists what that costs.
func TestDeduplicate_DropsEventWhoseIDAnotherPublisherHasTaken(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	client := openAt(t, database, pgmq.Config{})
	require.NoError(t, client.SubscribeInitialize(ezq.DefaultTopic))
	other := pgtest.Pool(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}", "grant insert (vt, message, headers) on pgmq.q_ezq to {role}"))
	execute(t, other, `insert into pgmq.q_ezq (vt, message, headers) values (now(), '{"_type":"UserCreated","Email":"other"}', '{"ezq_uuid":"order-7-paid"}')`)
	var handled []string
	router := newRouter(client, ezq.Config{Concurrency: 1})
	router.Use(middleware.Deduplicate{Store: keyStore(t, client)}.Middleware)
	ezq.Handle(router, func(_ context.Context, e userCreated) error { handled = append(handled, e.Email); return nil })
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{Email: "guessed"}, ezq.ID("order-7-paid")))
	require.NoError(t, ezq.Publish(t.Context(), client, userCreated{Email: "not guessed"}, ezq.ID("order-8-paid-"+rand.Text())))
	require.NoError(t, ezq.Publish(t.Context(), client, ezq.EndEvent{}))
	require.NoError(t, router.Run(t.Context()))
	require.Equal(t, []string{"other", "not guessed"}, handled)
}

func TestKeyStore_NamesRightsThatRoleLacks(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create schema app; revoke create on schema public from public")
	const usage, rights = `GRANT USAGE ON SCHEMA "app" TO the role`, `GRANT SELECT, INSERT, UPDATE, DELETE ON "app"."ezq_seen" TO the role`
	const create = `create table "app"."ezq_seen" (key bytea primary key, until timestamptz not null); create index on "app"."ezq_seen" (until)`
	url := pgtest.Role(t, database, "grant usage on schema pgmq to {role}")
	requireNames := func(err error, parts ...string) {
		t.Helper()
		require.ErrorIs(t, err, pgmq.ErrPermission)
		for _, part := range parts {
			require.ErrorContains(t, err, part)
		}
		require.NotContains(t, err.Error(), "SCHEMA pgmq")
	}
	client := openAt(t, url, pgmq.Config{})
	_, err := client.KeyStore(t.Context(), "app.ezq_seen")
	requireNames(err, create, usage, rights)
	_, err = client.KeyStore(t.Context(), "public.ezq_seen")
	requireNames(err, `GRANT USAGE ON SCHEMA "public" TO the role`)

	execute(t, pool, create)
	execute(t, pool, "grant usage on schema app to public")
	for _, missing := range []string{"select", "insert", "update", "delete"} {
		execute(t, pool, `grant select, insert, update, delete on app.ezq_seen to public; revoke `+missing+` on app.ezq_seen from public`)
		_, err = client.KeyStore(t.Context(), "app.ezq_seen")
		requireNames(err, rights)
	}
	execute(t, pool, `grant select, insert, update, delete on app.ezq_seen to public`)
	store, err := client.KeyStore(t.Context(), "app.ezq_seen")
	require.NoError(t, err)
	require.NoError(t, store.Mark(t.Context(), "key", time.Minute))
	execute(t, pool, `revoke all on app.ezq_seen from public`)
	_, err = store.Seen(t.Context(), "key")
	requireNames(err, rights)
	requireNames(store.Mark(t.Context(), "key", time.Minute), rights)
}

func TestKeyStore_NeedsDocumentedRights(t *testing.T) {
	t.Parallel()
	block := sqlBlock(t, "create table if not exists app.ezq_seen")
	grants := regexp.MustCompile(`(?m)^grant .*$`).FindAllString(block, -1)
	require.Len(t, grants, 2)
	for missing := -1; missing < len(grants); missing++ {
		database := pgtest.Database(t)
		execute(t, pgtest.Pool(t, database), regexp.MustCompile(`(?m)^grant .*$`).ReplaceAllString(block, ""))
		all := []string{"grant usage on schema pgmq to {role}"}
		for i, grant := range grants {
			if i != missing {
				all = append(all, strings.Replace(grant, "to ezq_consumer", "to {role}", 1))
			}
		}
		err := rememberKey(t.Context(), openAt(t, pgtest.Role(t, database, all...), pgmq.Config{}))
		if missing < 0 {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, pgmq.ErrPermission, grants[missing])
		}
	}
}
