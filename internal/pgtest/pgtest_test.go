package pgtest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestDatabase_HasPGMQUntilTestEnds(t *testing.T) {
	server := pgtest.Pool(t, pgtest.URL(t))
	var name string

	t.Run("the database has PGMQ", func(t *testing.T) {
		pool := pgtest.Pool(t, pgtest.Database(t))
		var queues int
		err := pool.QueryRow(t.Context(), "select current_database(), count(*) from pgmq.meta").Scan(&name, &queues)
		if err != nil || queues != 0 {
			t.Fatalf("%d queues, error %v; want an empty pgmq.meta", queues, err)
		}
	})

	var exists bool
	err := server.QueryRow(t.Context(), "select exists (select from pg_database where datname = $1)", name).Scan(&exists)
	if err != nil || exists {
		t.Fatalf("the database exists: %v, error: %v; want it gone", exists, err)
	}
}

func TestDatabase_IsCreatedConcurrently(t *testing.T) {
	pgtest.URL(t)
	seen := make(map[string]bool)
	var mu sync.Mutex
	t.Run("eight databases at once", func(t *testing.T) {
		for range 8 {
			t.Run("one database", func(t *testing.T) {
				t.Parallel()
				database := pgtest.Database(t)
				mu.Lock()
				defer mu.Unlock()
				seen[database] = true
			})
		}
	})
	if len(seen) != 8 {
		t.Fatalf("%d databases, want 8 different ones", len(seen))
	}
}

func TestEmptyDatabase_HasNoPGMQ(t *testing.T) {
	pool := pgtest.Pool(t, pgtest.EmptyDatabase(t))
	var exists bool
	err := pool.QueryRow(t.Context(), "select to_regnamespace('pgmq') is not null").Scan(&exists)
	if err != nil || exists {
		t.Fatalf("schema pgmq exists: %v, error: %v; want none", exists, err)
	}
}

func TestRole_HasGrantedRightsOnly(t *testing.T) {
	database := pgtest.Database(t)
	role := pgtest.Role(t, database,
		"grant usage on schema pgmq to {role}",
		"grant select on pgmq.meta to {role}")

	pool := pgtest.Pool(t, role)
	if _, err := pool.Exec(t.Context(), "select from pgmq.meta"); err != nil {
		t.Fatal("reading pgmq.meta, which was granted:", err)
	}
	_, err := pool.Exec(t.Context(), "delete from pgmq.meta")
	const insufficientPrivilege = "42501"
	if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != insufficientPrivilege {
		t.Fatalf("deleting from pgmq.meta, which was not granted: %v; want error %s", err, insufficientPrivilege)
	}
}

func TestRole_IsDroppedWithItsObjects(t *testing.T) {
	database := pgtest.EmptyDatabase(t)
	admin := pgtest.Pool(t, database)
	var name string

	t.Run("the role creates a table", func(t *testing.T) {
		role := pgtest.Role(t, database, "grant create on schema public to {role}")
		conn, err := pgx.Connect(t.Context(), role)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		if _, err := conn.Exec(t.Context(), "create table public.its_own ()"); err != nil {
			t.Fatal(err)
		}
		name = conn.Config().User
	})

	var roles, tables int
	err := admin.QueryRow(t.Context(), `
		select (select count(*) from pg_roles where rolname = $1),
		       (select count(*) from pg_tables where tablename = 'its_own')`, name).Scan(&roles, &tables)
	if err != nil || roles != 0 || tables != 0 {
		t.Fatalf("%d roles and %d tables are left, error %v; want none", roles, tables, err)
	}
}

func TestEventually_ReturnsOnceConditionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, calls := time.Now(), 0
		pgtest.Eventually(t, time.Minute, "three calls", func() bool {
			calls++
			return calls == 3
		})
		if waited := time.Since(start); waited != 20*time.Millisecond {
			t.Fatalf("waited %v, want two pauses of 10 ms", waited)
		}
	})
}

func TestEventually_FailsTestWhenTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start, failure := time.Now(), &recorder{TB: t}
		failure.run(func(tb testing.TB) {
			pgtest.Eventually(tb, time.Second, "never so", func() bool { return false })
		})
		if !failure.fatal || time.Since(start) != time.Second {
			t.Fatalf("failed: %v after %v; want a failure after 1s", failure.fatal, time.Since(start))
		}
	})
}

func TestURL_WithoutServerSkipsExceptInCI(t *testing.T) {
	t.Setenv("EZQ_TEST_DATABASE", "")
	for ci, want := range map[string]recorder{
		"":     {skipped: true},
		"true": {fatal: true},
	} {
		t.Setenv("CI", ci)
		got := &recorder{TB: t}
		got.run(func(tb testing.TB) { pgtest.URL(tb) })
		if got.skipped != want.skipped || got.fatal != want.fatal {
			t.Errorf("CI=%q: skipped %v, failed %v; want %v, %v", ci, got.skipped, got.fatal, want.skipped, want.fatal)
		}
	}
}
