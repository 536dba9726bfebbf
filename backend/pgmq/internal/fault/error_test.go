package fault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

func TestError_IsOneLineWithRemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		err  *Error
		line string
	}{
		{
			"an error of PostgreSQL", &Error{
				Op: "publish", Topic: "orders", Kind: ErrPermission, Outcome: ErrRejected, Remedy: "grant it",
				Cause: serverError("42501", "permission denied for table q_orders"),
			},
			`pgmq: publish to "orders": permission denied for table q_orders (SQLSTATE 42501); nothing was stored; grant it`,
		},
		{
			"an error of the network", &Error{Op: "subscribe", Topic: "orders", Kind: ErrUnreachable, Cause: io.ErrUnexpectedEOF},
			`pgmq: subscribe to "orders": no connection to PostgreSQL: unexpected EOF`,
		},
		{
			"an error with an unknown outcome", &Error{Op: "publish", Topic: "orders", Outcome: ErrUnknownOutcome, Cause: context.DeadlineExceeded},
			`pgmq: publish to "orders": context deadline exceeded; it is unknown whether anything was stored`,
		},
		{"an error of another operation", &Error{Op: "redrive", Topic: "orders", Kind: ErrQueueNotFound}, `pgmq: redrive for "orders": queue does not exist`},
		{"an error without a topic", &Error{Op: "open", Kind: ErrNotInstalled}, `pgmq: open: PGMQ is not installed in this database`},
		{"an error without an operation", &Error{Topic: "A\n", Kind: ErrInvalidTopic}, `pgmq: topic "A\n": invalid topic`},
		{"an error with the cause of a lower layer", &Error{Op: "open", Cause: &Error{Kind: ErrTooOld}}, `pgmq: open: PGMQ is too old`},
		{"a cause of several lines", &Error{Op: "open", Cause: errors.Join(io.EOF, io.ErrClosedPipe)}, `pgmq: open: EOF io: read/write on closed pipe`},
		{"a cause that wraps an error of PostgreSQL", &Error{Op: "open", Cause: fmt.Errorf("probing: %w", serverError("XX000", "boom"))}, `pgmq: open: probing: boom (SQLSTATE XX000)`},
		{"an empty error", &Error{}, `pgmq`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.EqualError(t, c.err, c.line)
		})
	}
}

func TestError_MatchesKindOutcomeAndCause(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("placing the order: %w", &Error{
		Kind: ErrPermission, Outcome: ErrRejected, Cause: serverError("42501", "permission denied"),
	})
	require.ErrorIs(t, err, ErrPermission)
	require.ErrorIs(t, err, ErrRejected)
	require.NotErrorIs(t, err, ErrUnknownOutcome)
	var pg *pgconn.PgError
	require.True(t, errors.As(err, &pg))
	require.Equal(t, "42501", pg.Code)
	require.Empty(t, (&Error{}).Unwrap())
}

func TestError_HidesRowsQuotedByPostgreSQL(t *testing.T) {
	t.Parallel()
	const row = "s3cr3t row"
	server := serverError("23514", "the row is refused")
	server.Detail, server.Where, server.InternalQuery, server.Hint = row, row, row, row
	for _, err := range []error{
		Classify("publish", "orders", server),
		Classify("publish", "orders", fmt.Errorf("wrapped: %w", server)),
		Classify("publish", "orders", errors.Join(server, io.EOF)),
		Classify("publish", "orders", &Error{Kind: ErrPermission, Cause: WithoutSecrets(server)}),
		WithoutSecrets(server),
	} {
		asJSON, failure := json.Marshal(map[string]any{"error": err})
		require.NoError(t, failure)
		var logged bytes.Buffer
		for _, handler := range []slog.Handler{slog.NewJSONHandler(&logged, nil), slog.NewTextHandler(&logged, nil)} {
			slog.New(handler).With("cause", err).Error("failed", "error", err)
		}
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s %s", err, err, err, asJSON, &logged), row)
		require.Equal(t, 4, strings.Count(logged.String(), "the row is refused"))
		pg, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok)
		require.Equal(t, row, pg.Detail, "it is there for those who ask for it")
	}
	inJSON, err := json.Marshal(Classify("publish", "orders", server))
	require.NoError(t, err)
	require.Equal(t, `"pgmq: publish to \"orders\": the row is refused (SQLSTATE 23514); `+refusedRemedy+`"`, string(inJSON), "JSON has the line")
}

// The Where of the function is that of PostgreSQL 18.
func TestError_HidesTextThatMayQuoteAValue(t *testing.T) {
	t.Parallel()
	const function = "PL/pgSQL function app.check_order() line 3 at PERFORM"
	for text, server := range map[string]*pgconn.PgError{
		"invalid_text_representation; PostgreSQL's own text may quote a message, and is in its log": {
			Code: "22P02", Routine: "pg_strtoint32_safe", Message: `invalid input syntax for type integer: "s3cr3t"`,
		},
		"undefined_table in line 3 of app.check_order; PostgreSQL's own text may quote a message, and is in its log": {
			Code: "42P01", Routine: "RangeVarGetRelidExtended", Message: `relation "pgmq.q_s3cr3t" does not exist`, Where: "SQL statement \"s3cr3t\"\n" + function,
		},
		"a file cannot be used; PostgreSQL's own text may quote a message, and is in its log": {
			Code: "58030", Routine: "be_lo_import", Message: `could not read server file "s3cr3t"`,
		},
		"syntax_error; PostgreSQL's own text may quote a message, and is in its log": {
			Code: "42601", Routine: "scanner_yyerror", Message: `syntax error at or near "s3cr3t"`, Where: "invalid type name \"s3cr3t\nPL/pgSQL function pgmq.create(text) line 5 at EXECUTE\"",
		},
		"a function failed in line 11 of pgmq.validate_routing_key; PostgreSQL's own text may quote a message, and is in its log": {
			Code: "P0001", Routine: "exec_stmt_raise", Message: `routing_key cannot be s3cr3t`, Where: "PL/pgSQL function pgmq.validate_routing_key(text) line 11 at RAISE",
		},
		"an error; PostgreSQL's own text may quote a message, and is in its log": {Code: "U0001", Routine: "plperl", Message: "s3cr3t", Where: "PL/Perl function"},

		`relation "pgmq.q_t" does not exist`:                          {Code: "42P01", Routine: "parserOpenTable", Message: `relation "pgmq.q_t" does not exist`, Position: 15},
		`relation "q_t" already exists`:                               {Code: "42P07", Routine: "heap_create_with_catalog", Message: `relation "q_t" already exists`, Where: "SQL statement \"…\"\nPL/pgSQL function pgmq.create(text) line 2 at PERFORM"},
		"permission denied for table audit":                           {Code: "42501", Routine: "aclcheck_error", Message: "permission denied for table audit", Where: function},
		`new row for relation "q_t" violates check constraint "paid"`: {Code: "23514", Routine: "ExecConstraints", Message: `new row for relation "q_t" violates check constraint "paid"`},
		"canceling statement due to statement timeout":                {Code: "57014", Routine: "ProcessInterrupts", Message: "canceling statement due to statement timeout", Where: function},
		"invalid memory alloc request size 1073741824":                {Code: "XX000", Routine: "repalloc", Message: "invalid memory alloc request size 1073741824"},
		"an order has no total":                                       {Code: "22023", Routine: "exec_stmt_raise", Message: "an order has no total", Where: function},
	} {
		server.Severity = "ERROR"
		err := Classify("publish", "t", fmt.Errorf("wrapped: %w", server))
		require.ErrorContains(t, err, `pgmq: publish to "t": `)
		require.ErrorContains(t, err, "wrapped: "+text+" (SQLSTATE "+server.Code+")")
		require.NotContains(t, fmt.Sprintf("%v %#v %v", err, err, errors.Unwrap(err)), "s3cr3t")
		pg, ok := errors.AsType[*pgconn.PgError](err)
		require.True(t, ok)
		require.Equal(t, server, pg, "it is there for those who ask for it")
	}
}

func TestRemedy_IsForTableNamedByServer(t *testing.T) {
	t.Parallel()
	about := Subject{Op: "fetch", Topic: "orders", Queue: "orders_g"}
	deadLetter := Subject{Op: "dead-letter", Topic: "orders_dead", Queue: "orders_dead", Source: "orders_g"}
	for _, c := range []struct {
		Subject
		code, message string
		remedy        string
	}{
		{about, "42P01", `Relation »pgmq.a_orders_g« existiert nicht`, "the archive of the queue is not there; create it with SELECT pgmq.create('orders_g'), and let its owner run GRANT SELECT, INSERT ON \"pgmq\".\"a_orders_g\" TO the role"},
		{about, "42P01", `relation "missing" does not exist`, "create that table, or look for what names it on the tables of the queue: a trigger, a rule or a policy"},
		{Subject{Op: "commit"}, "42P01", `relation "missing" does not exist`, "create that table, or look for what names it on the tables of the queue: a trigger, a rule or a policy"},
		{about, "42P01", `relation "pgmq.q_audit" does not exist`, "create it with SELECT pgmq.create('audit')"},
		{about, "42P01", `relation "pgmq.q_orders_g" does not exist`, "create it with SELECT pgmq.create('orders_g'), or leave NoCreate unset"},
		{about, "42501", "Berechtigung verweigert für Tabelle q_orders_g", `let its owner run GRANT SELECT, UPDATE, DELETE ON "pgmq"."q_orders_g" TO the role`},
		{about, "42501", "permission denied for table a_orders_g", `let its owner run GRANT SELECT, INSERT ON "pgmq"."a_orders_g" TO the role`},
		{deadLetter, "42501", "permission denied for table q_orders_g", `let its owner run GRANT DELETE ON "pgmq"."q_orders_g" TO the role`},
		{deadLetter, "42501", "permission denied for table q_orders_dead", `let its owner run GRANT INSERT (vt, message, headers) ON "pgmq"."q_orders_dead" TO the role`},
		{Subject{}, "42501", "permission denied for table a_t", `let its owner run GRANT SELECT, INSERT ON "pgmq"."a_t" TO the role`},
		{
			about, "42501", "permission denied for schema pgmq",
			"if the queue does not exist, create it with SELECT pgmq.create('orders_g'); then let its owner run GRANT USAGE ON SCHEMA pgmq TO the role;" +
				` GRANT SELECT, UPDATE, DELETE ON "pgmq"."q_orders_g" TO the role`,
		},
		{
			Subject{Op: "purge the archive", Topic: "t", Queue: "t"},
			"42P01", `relation "pgmq.a_t" does not exist`,
			`the archive of the queue is not there; create it with SELECT pgmq.create('t'), and let its owner run GRANT SELECT, UPDATE, DELETE ON "pgmq"."a_t" TO the role`,
		},
		{Subject{Op: "replay", Topic: "t", Queue: "t"}, "42501", "permission denied for table a_t", `let its owner run GRANT SELECT ON "pgmq"."a_t" TO the role`},
		{
			Subject{Op: "subscribe", Topic: "t", Queue: "t"},
			"42501", "permission denied for table meta",
			"let the queue be declared by its owner, with SubscribeInitialize; or, if this role is to create queues, let an administrator run GRANT SELECT, INSERT ON pgmq.meta TO the role",
		},
		{
			Subject{Op: "subscribe", Topic: "Orders", Queue: "orders_hb7e8acdd522e6190ac95"},
			"42P01", `relation "pgmq.q_orders_hb7e8acdd522e6190ac95" does not exist`,
			"create it with SELECT pgmq.create('orders_hb7e8acdd522e6190ac95'), or with SubscribeInitialize of its topic, which also notes the topic on the queue," +
				" or leave NoCreate unset",
		},
	} {
		t.Run(c.message, func(t *testing.T) {
			t.Parallel()
			_, remedy := c.diagnose(&pgconn.PgError{Severity: "ERROR", Code: c.code, Message: c.message})
			require.Equal(t, c.remedy, remedy)
		})
	}
}

func TestSQLSTATE_DecidesKindAndRemedy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code, op, topic string
		kind            error
		remedy          string
	}{
		{"28P01", "open", "", ErrAuthentication, "check user and password"},
		{"28000", "open", "", ErrAuthentication, "pg_hba.conf"},
		{"3D000", "open", "", ErrInvalidConfig, "database name"},
		{"53300", "open", "", ErrUnreachable, "max_connections"},
		{"57P03", "open", "", ErrUnreachable, ""},
		{"57P01", "publish", "orders", ErrUnreachable, ""},
		{"3F000", "publish", "orders", ErrNotInstalled, "CREATE EXTENSION pgmq"},
		{"42883", "open", "", ErrNotInstalled, "CREATE EXTENSION pgmq"},
		{"42P01", "publish", "Orders", ErrQueueNotFound, "SELECT pgmq.create('orders_hb7e8acdd522e6190ac95')"},
		{"42P01", "open", "", ErrNotInstalled, "CREATE EXTENSION pgmq"},
		{"42703", "publish", "orders", ErrTooOld, "ALTER EXTENSION pgmq UPDATE"},
		{"42501", "publish", "orders", ErrPermission, `GRANT INSERT (vt, message, headers) ON "pgmq"."q_orders" TO`},
		{"42501", "subscribe", "orders", ErrPermission, `GRANT SELECT, UPDATE, DELETE ON "pgmq"."q_orders" TO`},
		{"42501", "open", "", ErrPermission, "GRANT USAGE ON SCHEMA pgmq TO"},
		{"54000", "publish", "orders", ErrTooLarge, "send a reference"},
		{"22P05", "publish", "orders", ErrInvalidMessage, "the encoding UTF8"},
		{"22P02", "publish", "orders", ErrInvalidMessage, ""},
		{"25006", "publish", "orders", nil, "target_session_attrs=read-write"},
		{"25P02", "publish", "orders", nil, "roll it back"},
		{"26000", "publish", "orders", nil, "default_query_exec_mode=cache_describe"},
		{"40001", "publish", "orders", nil, "repeat the transaction"},
		{"53100", "publish", "orders", nil, "disk space"},
		{"57014", "publish", "orders", nil, "statement_timeout"},
		{"57014", "fetch", "orders", nil, "uncommitted and dead rows are read first"},
		{"XX000", "publish", "orders", nil, ""},
	} {
		t.Run(c.code+" on "+c.op, func(t *testing.T) {
			t.Parallel()
			err := Classify(c.op, c.topic, fmt.Errorf("wrapped: %w", serverError(c.code, "…")))
			var e *Error
			require.True(t, errors.As(err, &e))
			require.Equal(t, c.op, e.Op)
			require.Equal(t, c.topic, e.Topic)
			require.Equal(t, c.kind, e.Kind)
			require.Contains(t, e.Remedy, c.remedy)
			require.Equal(t, c.remedy == "", e.Remedy == "")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestError_ClassifiesClientSideFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ err, kind error }{
		{io.EOF, ErrUnreachable},
		{fmt.Errorf("write failed: %w", io.ErrUnexpectedEOF), ErrUnreachable},
		{pgconn.ErrConnClosed, ErrUnreachable},
		{context.Canceled, nil},
		{context.DeadlineExceeded, nil},
		{errors.New("anything"), nil},
	} {
		err := Classify("publish", "orders", c.err)
		require.ErrorIs(t, err, c.err)
		var e *Error
		require.True(t, errors.As(err, &e))
		require.Equal(t, c.kind, e.Kind)
	}
}

func TestError_IsClassifiedOnce(t *testing.T) {
	t.Parallel()
	require.NoError(t, Classify("publish", "orders", nil))

	inner := &Error{Kind: ErrNotInstalled, Remedy: "install it"}
	outer := Classify("publish", "orders", fmt.Errorf("wrapped: %w", inner))
	require.EqualError(t, outer, `pgmq: publish to "orders": PGMQ is not installed in this database; install it`)
	require.Empty(t, inner.Op, "errors may be shared")
	require.Equal(t, outer, Classify("open", "another", outer))
}

func TestError_OutcomeIsCertainOnlyFromServer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		err     error
		outcome error
	}{
		{"no error is no outcome", nil, nil},
		{"a statement that failed stored nothing", serverError("23505", "…"), ErrRejected},
		{"a statement that was cancelled stored nothing", serverError("57014", "…"), ErrRejected},
		{"a statement that failed while being prepared stored nothing", fmt.Errorf("prepare: %w", serverError("42P01", "…")), ErrRejected},
		{"a server that writes in another language is understood", &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR"}, ErrRejected},
		{"a server before 9.6 is understood", &pgconn.PgError{Severity: "ERROR"}, ErrRejected},
		{"a trigger may have lost a connection of its own", &pgconn.PgError{Severity: "ERROR", Code: "08006", File: "pl_exec.c", Routine: "exec_stmt_raise"}, ErrRejected},
		{"without a connection nothing was sent", refusedConnection(t), ErrRejected},

		{"a backend that was terminated may have committed", fatal("57P01"), ErrUnknownOutcome},
		{"a backend that crashed may have committed", &pgconn.PgError{Severity: "PANIC", SeverityUnlocalized: "PANIC", Code: "57P02"}, ErrUnknownOutcome},
		{"the server itself may not know the outcome", serverError("40003", "…"), ErrUnknownOutcome},
		{"a pooler that lost its server does not know the outcome", serverError("08006", "…"), ErrUnknownOutcome},
		{"a lost answer leaves the outcome unknown", io.ErrUnexpectedEOF, ErrUnknownOutcome},
		{"a timeout leaves the outcome unknown", context.DeadlineExceeded, ErrUnknownOutcome},
		{"a cancelled context leaves the outcome unknown", fmt.Errorf("timeout: %w", context.Canceled), ErrUnknownOutcome},
		{"the opinion of pgx leaves the outcome unknown", safeToRetry{pgconn.ErrConnClosed}, ErrUnknownOutcome},
		{"any other error leaves the outcome unknown", errors.New("?"), ErrUnknownOutcome},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.outcome, PublishOutcome(c.err))
		})
	}
}

// safeToRetry is what pgx up to 5.12 returns when the answer to a statement
// without arguments is lost, although it was committed.
type safeToRetry struct{ error }

func (e safeToRetry) Unwrap() error     { return e.error }
func (e safeToRetry) SafeToRetry() bool { return true }

func serverError(code, text string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code, Message: text}
}

func fatal(code string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code}
}

func TestSentinels_NamePackage(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		ErrUnreachable, ErrAuthentication, ErrNotInstalled, ErrTooOld, ErrPermission, ErrQueueNotFound,
		ErrInvalidTopic, ErrInvalidMessage, ErrTooLarge, ErrInvalidConfig, ErrRejected, ErrUnknownOutcome,
	} {
		require.True(t, strings.HasPrefix(err.Error(), "pgmq: "), err)
	}
}

// refusedConnection returns what pgx says about a port at which nothing listens.
func refusedConnection(t *testing.T) error {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	_, err = pgconn.Connect(t.Context(), "postgres://user@"+listener.Addr().String()+"/db?sslmode=disable")
	require.Error(t, err)
	return err
}

func TestClassify_NamesRemedyForFullNotifications(t *testing.T) {
	t.Parallel()
	var e *Error
	require.ErrorAs(t, Classify("publish", "orders", &pgconn.PgError{Severity: "ERROR", Code: "54000", Routine: "PreCommit_Notify"}), &e)
	require.NoError(t, e.Kind)
	require.Contains(t, e.Remedy, "NoNotify")
}
