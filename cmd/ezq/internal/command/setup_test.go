package command

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// pgmqFile returns the file with PGMQ's SQL.
func pgmqFile(t *testing.T) string {
	t.Helper()
	pgtest.URL(t) // or skips
	file := os.Getenv("EZQ_PGMQ_SQL")
	if file == "" {
		t.Skip("EZQ_PGMQ_SQL must name PGMQ's SQL file")
	}
	return file
}

// installInto installs PGMQ, and what ezq adds, into a database that has neither.
func installInto(t *testing.T, database string, args ...string) (code int, out, errOut string) {
	t.Helper()
	return outputOf(t, database, append([]string{"install", "--plain", "--file", pgmqFile(t)}, args...)...)
}

func ask[T any](t *testing.T, database, sql string, args ...any) (answer T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&answer), sql)
	return answer
}

const things = "select count(*) from pg_class where relnamespace = pg_catalog.to_regnamespace('pgmq')"

func TestInstall_MakesWhatIsMissing(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	code, out, errOut := installInto(t, database, "--dry-run")
	require.Zero(t, code, errOut)
	require.Equal(t, `in one transaction:
- install PGMQ 1.11.1 as plain SQL, in the schema pgmq
- create the table pgmq.ezq_ids, which remembers the IDs of events
- create the table pgmq.ezq_pauses, which has the pauses of topics
- create the queue ezq_schedules, which has the state of schedules
`, out)
	require.Zero(t, ask[int](t, database, things), "a dry run changes nothing")

	code, _, errOut = installInto(t, database)
	require.Equal(t, exitFailed, code)
	require.Equal(t, "ezq: nothing was changed, since this is no terminal to ask on: add --yes, or --dry-run\n", errOut)
	require.Zero(t, ask[int](t, database, things))

	code, out, errOut = installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	require.Contains(t, out, "done; next: ezq init")
	code, out, errOut = installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	require.Equal(t, "note: PGMQ 1.11.1 or later is there, and stays as it is; ezq upgrade updates it\nnothing is to be done\n", out)

	pgtest.Exec(t, pgtest.Pool(t, database), "drop table pgmq.ezq_ids")
	code, out, errOut = installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	require.Contains(t, out, "in one transaction:\n- create the table pgmq.ezq_ids, which remembers the IDs of events\ndone")
}

func TestInstall_OfSeveralAtOnceIsDoneOnce(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	file := pgmqFile(t)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			var out, errOut strings.Builder
			p := Process{In: strings.NewReader(""), Out: &out, Err: &errOut, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database})}
			assert.Zero(t, Run(t.Context(), []string{"install", "--plain", "--file", file, "--yes"}, p), errOut.String())
			assert.Regexp(t, `(done; next: .*|nothing was left to do: another one has done it meanwhile|nothing is to be done)\n$`, out.String())
		})
	}
	running.Wait()
	require.Equal(t, 1, ask[int](t, database, "select count(*) from pgmq.meta"))
}

func TestCommands_WithoutPGMQNameInstall(t *testing.T) {
	t.Parallel()
	code, _, errOut := outputOf(t, pgtest.EmptyDatabase(t), "queues")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "; ezq install does either\n")
}

func TestInstall_TakesNoOtherFileThanTheKnown(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	sql, err := os.ReadFile(pgmqFile(t))
	require.NoError(t, err)
	changed := filepath.Join(t.TempDir(), "pgmq--1.11.1.sql")
	require.NoError(t, os.WriteFile(changed, append(sql, '\n'), 0o600))
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(changed))))
	t.Cleanup(server.Close)
	for _, from := range [][]string{{"--file", changed}, {"--url", server.URL + "/pgmq--1.11.1.sql"}} {
		code, _, errOut := outputOf(t, database, append([]string{"install", "--plain", "--yes"}, from...)...)
		require.Equal(t, exitFailed, code)
		require.Regexp(t, `is not PGMQ 1\.11\.1: its SHA-256 is [0-9a-f]{64}, and [0-9a-f]{64} is expected; if you want another version`, errOut)
		require.Zero(t, ask[int](t, database, things))
	}
	sum := sha256.Sum256(append(sql, '\n'))
	code, _, errOut := outputOf(t, database, "install", "--plain", "--yes", "--url", server.URL+"/pgmq--1.11.1.sql", "--sha256", hex.EncodeToString(sum[:]))
	require.Zero(t, code, errOut)
	code, _, errOut = outputOf(t, pgtest.EmptyDatabase(t), "install", "--plain", "--yes", "--url", server.URL+"/nothing.sql")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "404 Not Found")
}

// What fails in the middle leaves nothing.
func TestInstall_OfBrokenSQLLeavesNothing(t *testing.T) {
	t.Parallel()
	pgmqFile(t)
	database := pgtest.EmptyDatabase(t)
	for sql, want := range map[string]string{
		"create schema pgmq; create function pgmq.create(text) returns void language sql as 'select'; select 1/0;": `division by zero.*nothing was changed`,
		"create schema pgmq;": `no function pgmq\.create|does not exist`,
	} {
		file := filepath.Join(t.TempDir(), "some.sql")
		require.NoError(t, os.WriteFile(file, []byte(sql), 0o600))
		sum := sha256.Sum256([]byte(sql))
		code, _, errOut := outputOf(t, database, "install", "--plain", "--yes", "--file", file, "--sha256", hex.EncodeToString(sum[:]))
		require.Equal(t, exitFailed, code)
		require.Regexp(t, want, errOut)
		require.False(t, ask[bool](t, database, "select pg_catalog.to_regnamespace('pgmq') is not null"))
	}
}

func TestInstall_SaysWhyItCannot(t *testing.T) {
	t.Parallel()
	pgmqFile(t)
	none := func(*testing.T, string) {}
	for name, test := range map[string]struct {
		prepare func(t *testing.T, database string)
		as      []string // the grants of a role that installs; none for the superuser
		want    string
	}{
		"a role without rights":       {none, []string{"grant usage on schema public to {role}"}, `may not create the schema pgmq in the database .*: connect as the owner of the database, or let it run GRANT CREATE ON DATABASE`},
		"a role that takes no writes": {none, []string{"alter role {role} set default_transaction_read_only = on"}, `default_transaction_read_only is on`},
		"another role's schema": {func(t *testing.T, database string) {
			other := pgtest.Role(t, database)
			u, err := url.Parse(other)
			require.NoError(t, err)
			pgtest.Exec(t, pgtest.Pool(t, database), "create schema pgmq authorization "+pgx.Identifier{u.User.Username()}.Sanitize())
		}, nil, `the schema pgmq belongs to the role "ezq_test_.*", which "postgres" has no reason to trust`},
		"another role's table": {func(t *testing.T, database string) {
			pgtest.Exec(t, pgtest.Pool(t, database), "create schema pgmq")
			other := pgtest.Role(t, database, "grant usage, create on schema pgmq to {role}")
			pgtest.Exec(t, pgtest.Pool(t, other), "create table pgmq.meta (queue_name varchar unique not null, is_partitioned boolean, is_unlogged boolean, created_at timestamptz)")
		}, nil, `would be used as if it were PGMQ's: the table pgmq\.meta, of the role ezq_test_`},
		"another role's function": {func(t *testing.T, database string) {
			pgtest.Exec(t, pgtest.Pool(t, database), "create schema pgmq")
			other := pgtest.Role(t, database, "grant usage, create on schema pgmq to {role}")
			pgtest.Exec(t, pgtest.Pool(t, other), "create function pgmq.create(text) returns void language sql as 'select'")
		}, nil, `would be used as if it were PGMQ's: the function pgmq\."create"\(text\), of the role ezq_test_`},
		"a part of PGMQ": {func(t *testing.T, database string) {
			pgtest.Exec(t, pgtest.Pool(t, database), "create schema pgmq; create table pgmq.meta (a int)")
		}, nil, `the schema pgmq has meta, and no function pgmq\.create: PGMQ was installed or removed in part`},
		"another table of IDs": {func(t *testing.T, database string) {
			code, _, errOut := installInto(t, database, "--yes")
			require.Zero(t, code, errOut)
			pgtest.Exec(t, pgtest.Pool(t, database), "alter table pgmq.ezq_ids add column other int")
		}, nil, `pgmq\.ezq_ids has the columns key, other, until, and ezq needs key, until`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.EmptyDatabase(t)
			test.prepare(t, database)
			before, as := ask[int](t, database, things), database
			if test.as != nil {
				as = pgtest.Role(t, database, test.as...)
			}
			code, out, errOut := installInto(t, as, "--yes")
			require.Equal(t, exitFailed, code, out)
			require.Regexp(t, test.want, errOut)
			require.Equal(t, before, ask[int](t, database, things))
		})
	}
}

func TestInstall_OnAStandbySaysSo(t *testing.T) {
	t.Parallel()
	pgmqFile(t)
	standby := cluster.Start(t).Standby()
	code, _, errOut := installInto(t, standby.URL(), "--yes")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "the server is a standby, which takes no writes: connect to the primary")
}

// A role that may create objects in a schema of the search_path has none of them used.
func TestInstall_UsesNoFunctionOfTheSearchPath(t *testing.T) {
	t.Parallel()
	pgmqFile(t)
	database := pgtest.EmptyDatabase(t)
	pool := pgtest.Pool(t, database)
	pgtest.Exec(t, pool, "grant create on schema public to public; create table public.trap (a int); grant insert on public.trap to public")
	other := pgtest.Role(t, database)
	for _, trap := range []string{
		"function public.format(text, text, text) returns text language sql as 'insert into public.trap values (1); select $1'",
		"function public.format(text, text) returns text language sql as 'insert into public.trap values (1); select $1'",
		"function public.format(text, varchar) returns text language sql as 'insert into public.trap values (1); select $1'",
		"function public.replace(text, varchar, varchar) returns text language sql as 'insert into public.trap values (1); select $1'",
		"function public.lower(varchar) returns text language sql as 'insert into public.trap values (1); select $1::text'",
	} {
		pgtest.Exec(t, pgtest.Pool(t, other), "create "+trap)
	}
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	require.Zero(t, ask[int](t, database, "select count(*) from public.trap"))
}

// packageOf returns an npm package of PGMQ's shape, and its checksum.
func packageOf(t *testing.T, files map[string]string) (content []byte, sum string) {
	t.Helper()
	inner := archive(t, files)
	content = archive(t, map[string]string{"package/dist/pgmq.tar.gz": string(inner), "package/package.json": "{}"})
	digest := sha256.Sum256(content)
	return content, hex.EncodeToString(digest[:])
}

func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for name, text := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, zipped.Close())
	return b.Bytes()
}

// The package has a script that makes a version before the last to the last one.
func TestUpgrade_RunsTheScriptsOfPGMQ(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	sql, err := os.ReadFile(pgmqFile(t))
	require.NoError(t, err)
	head := regexp.MustCompile(`(?s)CREATE (OR REPLACE )?FUNCTION pgmq\.read_grouped_head\(.*?LANGUAGE plpgsql;`).FindString(string(sql))
	require.NotEmpty(t, head)
	code, _, errOut := installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	pgtest.Exec(t, pgtest.Pool(t, database), "drop function pgmq.read_grouped_head(text, integer, integer); drop table pgmq.ezq_pauses")

	content, sum := packageOf(t, map[string]string{
		"share/postgresql/extension/pgmq--1.11.1.sql":         string(sql),
		"share/postgresql/extension/pgmq--1.11.0--1.11.1.sql": "SELECT pg_catalog.pg_extension_config_dump('pgmq.topic_bindings', '');\n" + head,
	})
	file := filepath.Join(t.TempDir(), "package.tgz")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	upgrade := []string{"upgrade", "--yes", "--file", file, "--sha256", sum}
	code, out, errOut := outputOf(t, database, upgrade...)
	require.Zero(t, code, errOut)
	require.Equal(t, `note: PGMQ's scripts lock each queue while they change it: publishers and consumers wait until all of it is done
in one transaction:
- update PGMQ from 1.11.0 to 1.11.1, with its own script
- create the table pgmq.ezq_pauses, which has the pauses of topics
done
`, out)
	code, out, errOut = outputOf(t, database, upgrade...)
	require.Zero(t, code, errOut)
	require.Equal(t, "note: PGMQ is 1.11.1 or later, installed as plain SQL, and this ezq has no later one: it stays\nnothing is to be done\n", out)
}

func TestUpgrade_WithoutScriptsLeavesPGMQ(t *testing.T) {
	t.Parallel()
	database := pgtest.EmptyDatabase(t)
	code, _, errOut := outputOf(t, database, "upgrade", "--yes", "--file", pgmqFile(t))
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "the database has no PGMQ that could be updated: run ezq install")
	code, _, errOut = installInto(t, database, "--yes")
	require.Zero(t, code, errOut)
	pgtest.Exec(t, pgtest.Pool(t, database), "drop function pgmq.read_grouped_head(text, integer, integer)")
	code, out, errOut := outputOf(t, database, "upgrade", "--yes", "--file", pgmqFile(t))
	require.Zero(t, code, errOut)
	require.Contains(t, out, "PGMQ is 1.11.0, installed as plain SQL, and stays: the file has only the SQL that installs it")
}
