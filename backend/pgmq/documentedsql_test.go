package pgmq_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestDocumentedSQL_RunsAsWritten(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(operations)
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllSubmatch(text, -1)
	require.NotEmpty(t, blocks)
	conn, err := pgx.Connect(t.Context(), ordersDatabase(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	run := func(sql string) {
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
	}
	run("begin")
	// The roles are there from the start: some statements come before their section.
	for _, block := range blocks {
		if sql := string(block[1]); strings.HasPrefix(sql, "create role") {
			run(sql)
		}
	}
	var outside []string // what PostgreSQL runs in no transaction
	for _, block := range blocks {
		switch sql := string(block[1]); {
		case strings.HasPrefix(sql, "create role"):
		case strings.Contains(sql, " concurrently "):
			outside = append(outside, strings.SplitAfter(sql, ";\n")...)
		default:
			run("savepoint s;" + sql + "; rollback to s")
		}
	}
	run("rollback") // roles belong to the whole server
	for _, sql := range outside {
		run(sql)
	}
}

// Who sets up a database reads the section from top to bottom.
func TestRoles_SectionRunsInItsOrderOnANewDatabase(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(operations)
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Roles\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(section, -1)
	require.NotEmpty(t, blocks)
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	_, err = conn.Exec(t.Context(), "begin") // roles belong to the whole server
	require.NoError(t, err)
	for _, block := range blocks {
		_, err := conn.PgConn().Exec(t.Context(), block[1]).ReadAll()
		require.NoError(t, err, block[1])
	}
	_, err = conn.Exec(t.Context(), "rollback")
	require.NoError(t, err)
}

// What the page has an operator run on call is covered by the grants of an operator.
func TestGrants_OfOperatorCoverThePageOnCall(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operate.md")
	require.NoError(t, err)
	database := ordersDatabase(t)
	operator := pgtest.Pool(t, pgtest.Role(t, database, grantsOf(t, "ezq_operator")...))
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		execute(t, operator, strings.ReplaceAll(block[1], "q_ezq", "q_orders"))
	}
}
