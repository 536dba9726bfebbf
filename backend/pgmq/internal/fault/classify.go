package fault

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
)

// Classify returns err as a new *Error that says what was to be done, what went
// wrong and what to do about it, and that contains no password. An *Error stays
// what it is and is only completed. Nil stays nil.
func Classify(op, topic string, err error) error { return NewSubject(op, topic).Classify(err) }

// Subject is what was done with which queue. Where PostgreSQL says which table an error is
// about, that counts, and not the queue.
type Subject struct {
	Op, Topic string
	Queue     string // "" if none is known
	Source    string // of a dead letter: the queue that it is in
}

// NewSubject returns what was done with the own queue of topic.
func NewSubject(op, topic string) Subject {
	queue, _ := queuename.Of(topic) // or ""
	return Subject{Op: op, Topic: topic, Queue: queue}
}

// Classify is [Classify] for this subject.
func (s Subject) Classify(err error) error {
	if err == nil {
		return nil
	}
	if known, ok := errors.AsType[*Error](err); ok {
		e := *known
		e.Outcome = cmp.Or(e.Outcome, outcome(err))
		if e.Op == "" {
			e.Op = s.Op
		}
		if e.Topic == "" {
			e.Topic = s.Topic
		}
		return &e
	}
	if invalid, ok := errors.AsType[*queuename.InvalidError](err); ok {
		return &Error{Op: s.Op, Topic: invalid.Topic, Kind: ErrInvalidTopic, Cause: invalid}
	}
	e := &Error{Op: s.Op, Topic: s.Topic, Outcome: outcome(err), Cause: WithoutSecrets(err)}
	e.Kind, e.Remedy = s.diagnose(err)
	return e
}

// PublishOutcome tells what became of a statement that failed with err and was
// sent on its own, outside of a transaction: ErrRejected or ErrUnknownOutcome.
//
// Only PostgreSQL can know that a statement has failed: it says ERROR, having
// rolled back. FATAL and PANIC can strike after the commit. Whatever the client
// has noticed by itself says nothing about the server, except that it could not
// connect at all. In particular [pgconn.SafeToRetry] is not asked: up to pgx
// 5.12 it is true for some statements that were committed.
func PublishOutcome(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return ErrRejected
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && severity(pg) == "ERROR" && !isOutcomeUnknown(pg) {
		return ErrRejected
	}
	return ErrUnknownOutcome
}

func severity(pg *pgconn.PgError) string {
	if pg.SeverityUnlocalized != "" {
		return pg.SeverityUnlocalized
	}
	return pg.Severity
}

// isOutcomeUnknown reports whether pg is 40003, statement completion unknown, or of the class
// 08, with which a pooler reports that it has lost its server. PostgreSQL itself, which
// says where in its code an error comes from, passes such a code on from a trigger, say,
// that has lost a connection of its own.
func isOutcomeUnknown(pg *pgconn.PgError) bool {
	return pg.Code == "40003" || strings.HasPrefix(pg.Code, "08") && pg.Routine == ""
}

// diagnose returns the kind of err, or nil, and what to do, or nothing.
func (s Subject) diagnose(err error) (kind error, remedy string) {
	var parse *pgconn.ParseConfigError
	var connect *pgconn.ConnectError
	var pg *pgconn.PgError
	var network net.Error
	switch {
	case errors.As(err, &parse):
		return ErrInvalidConfig, "write it as postgres://user:password@host:5432/database, with special characters percent-encoded"
	case errors.Is(err, pgconn.ErrReadOnlyConnection), errors.Is(err, pgconn.ErrReadWriteConnection),
		errors.Is(err, pgconn.ErrPrimaryConnection), errors.Is(err, pgconn.ErrStandbyConnection):
		// Another attempt may have been refused for a reason of its own, such as no TLS.
		return ErrUnreachable, "no server of the database URL is as its target_session_attrs says: check the hosts, and which of them is the primary"
	case errors.As(err, &connect) && errors.As(err, &pg) && isParameterError(pg):
		return ErrInvalidConfig, "check the names and values of the parameters behind its ?, or those of key=value"
	case errors.As(err, &pg):
		return s.diagnoseServer(pg)
	case errors.Is(err, pgx.ErrTxClosed):
		return ErrInvalidConfig, "leave it to TxMiddleware, or to the code that has begun the transaction, to commit it and to roll it back"
	case errors.Is(err, context.Canceled):
		return nil, ""
	case errors.As(err, &connect):
		return ErrUnreachable, connectRemedy(err)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, "look in pg_stat_activity for what waits for a lock, or is busy with a message that takes long to write out; and for a pool with too few connections"
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), errors.Is(err, pgconn.ErrConnClosed):
		return ErrUnreachable, ""
	}
	return nil, ""
}

// connectRemedy returns what to do if no server could be connected to.
func connectRemedy(err error) string {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return "check that host is the name in the server's certificate, and that sslrootcert is the file of the authority that has signed it"
	case strings.Contains(err.Error(), "require_auth check failed"): // by pgx, which has no error for it
		return "check require_auth, and what pg_hba.conf says for this host: the server asks for another way to log in, and got no password"
	}
	return "check that PostgreSQL is running and that host, port and sslmode are right"
}

// diagnoseServer goes by the SQLSTATE: messages are translated.
func (s Subject) diagnoseServer(pg *pgconn.PgError) (kind error, remedy string) {
	if IsNotStored(pg) {
		return nil, NotStoredRemedy
	}
	switch pg.Code {
	case "28P01", "28000": // invalid_password, invalid_authorization_specification
		return ErrAuthentication, "check user and password in the database URL, and pg_hba.conf"
	case "3D000": // invalid_catalog_name
		return ErrInvalidConfig, "check the database name in the database URL"
	case "42501": // insufficient_privilege
		return ErrPermission, s.grants(pg)
	case "3F000", "42883": // invalid_schema_name, undefined_function
		return ErrNotInstalled, "run CREATE EXTENSION pgmq in this database, or ALTER EXTENSION pgmq UPDATE"
	case "42P01": // undefined_table
		return s.missingTable(pg)
	case "42703": // undefined_column
		return ErrTooOld, "update PGMQ to 1.5 or later: ALTER EXTENSION pgmq UPDATE"
	case "54000": // program_limit_exceeded
		if pg.Routine == "PreCommit_Notify" {
			return nil, fullNotificationsRemedy
		}
		return ErrTooLarge, "store it elsewhere and send a reference"
	case "22P05": // untranslatable_character
		return ErrInvalidMessage, "its text needs a database with the encoding UTF8"
	case "22P02", "22003", "22021": // what jsonb cannot hold
		return ErrInvalidMessage, ""
	case "23505": // unique_violation
		return nil, duplicateIDRemedy(pg)
	case "53300": // too_many_connections
		return ErrUnreachable, "make pools smaller, raise max_connections, or put a pooler in front"
	case "55P03": // lock_not_available
		if IsLockTimeout(pg) {
			return nil, lockedRemedy
		}
		return nil, ""
	case "57P01", "57P02", "57P03", "57P05", "25P03", "08000", "08003", "08006": // shutdown, start-up, broken
		return ErrUnreachable, ""
	}
	return nil, otherRemedy(pg.Code)
}

// What to do about a server that takes no writes.
const (
	StandbyRemedy  = "this is a standby: connect to the primary, or add target_session_attrs=read-write to the database URL"
	ReadOnlyRemedy = "default_transaction_read_only is on, for the server, the database or the role, as providers set it when the disk is full:" +
		" free space, or set it to off"
)

const fullNotificationsRemedy = "end the session that listens and stays in a transaction, which PostgreSQL's log names, or set NoNotify"

const lockedRemedy = "another transaction has locked it: select pid, relation::regclass, mode from pg_locks shows which, and pg_stat_activity what it does"

// PGMQ's own tables have neither, but for their keys.
const refusedRemedy = "a constraint or a trigger that was added to the table refuses it: change what is refused, or remove that"

// NotStoredRemedy is what to do about a table that does not take rows, and refuses none.
const NotStoredRemedy = "a trigger or a rule on the table that the row goes to keeps it out, or stores it in another table: have it raise an exception instead, or remove it"

func otherRemedy(code string) string {
	switch code {
	case "25006": // read_only_sql_transaction
		return "if select pg_is_in_recovery() is true, " + StandbyRemedy + "; if it is false, " + ReadOnlyRemedy
	case "25P02": // in_failed_sql_transaction
		return "an earlier statement of this transaction has failed: roll it back"
	case "26000", "42P05": // invalid_sql_statement_name, duplicate_prepared_statement
		return "behind a pooler in transaction mode set default_query_exec_mode=cache_describe in the database URL"
	case "40001", "40P01": // serialization_failure, deadlock_detected
		return "repeat the transaction"
	case "53100": // disk_full
		return "free disk space on the database server"
	case "55P03": // lock_not_available
		return "look in pg_stat_activity for the transaction that has locked it, and end that"
	case "57014": // query_canceled
		return "look in pg_stat_activity for what waits for a lock, is busy with a message that takes long to write out, or has been in a transaction" +
			" for long, of which uncommitted and dead rows are read first; and at statement_timeout"
	case "P0001": // raise_exception
		return refusedRemedy
	}
	if strings.HasPrefix(code, "23") { // integrity constraint violation
		return refusedRemedy
	}
	return ""
}

// duplicateIDRemedy returns what to do where PGMQ gives a message an id that another one has. The
// key of a partition is that of a part of the queue.
func duplicateIDRemedy(pg *pgconn.PgError) string {
	queue, isQueue := strings.CutPrefix(pg.TableName, queuename.QueuePrefix)
	if pg.SchemaName != "pgmq" || !isQueue || isRaised(pg) || !strings.HasSuffix(pg.ConstraintName, "_pkey") {
		return ""
	}
	return fmt.Sprintf("messages have ids that PGMQ has not given yet, of which each fails one publish: they are greater than"+
		" (select last_value from pgmq.q_%[1]s_msg_id_seq). Look at them, and delete those that are not to stay: after 9223372036854775807"+
		" there is no id, and every publish fails. Then have PGMQ go on after the last with"+
		" select setval('pgmq.q_%[1]s_msg_id_seq', max(msg_id)) from pgmq.q_%[1]s. A role that may write ids has a right to more than publishing takes,"+
		" which is INSERT (vt, message, headers)", queue)
}

// OriginsOp is the Op of errors that say what origins dead letters have.
const OriginsOp = "list the origins of dead letters"

// relationOf returns which table of which queue pg is about: the queue itself, or its
// archive. Both are "" if pg does not say. Messages are translated, and names are not. One that may be a
// value is left out, unless it is that of the subject, or of a group of its topic.
func (s Subject) relationOf(pg *pgconn.PgError) (prefix, queue string) {
	names, certain := []string{pg.TableName}, true
	if pg.SchemaName != "pgmq" || pg.TableName == "" || isRaised(pg) {
		names, certain = namesIn(pg.Message), !mayQuote(pg)
	}
	for _, name := range names {
		for _, prefix := range [...]string{queuename.QueuePrefix, queuename.ArchivePrefix} {
			queue, ok := strings.CutPrefix(name, prefix)
			if ok && queue != "" && !strings.HasSuffix(queue, "_seq") && (certain || queue == s.Queue || queuename.IsGroup(s.Topic, queue)) {
				return prefix, queue
			}
		}
	}
	return "", ""
}

func isLowerOrDigit(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' }

// missingTable returns what to do about a table that is not there.
func (s Subject) missingTable(pg *pgconn.PgError) (kind error, remedy string) {
	prefix, queue := s.relationOf(pg)
	switch {
	case isOfOthers(pg):
		return nil, "create that table, or look for what names it on the tables of the queue: a trigger, a rule or a policy"
	case prefix == queuename.ArchivePrefix:
		return ErrQueueNotFound, fmt.Sprintf("the archive of the queue is not there; create it with SELECT pgmq.create('%s'), and let its owner run"+
			" GRANT %s ON %s TO the role", queue, s.archivePrivileges(), pgx.Identifier{"pgmq", prefix + queue}.Sanitize())
	case s.createsNothing() && (queue == s.Queue || queuename.IsGroup(s.Topic, queue)):
		check := "check the topic"
		if queuename.IsGroup(s.Topic, queue) {
			check += " and the Group"
		}
		return ErrQueueNotFound, check + ": Queues, and ezq queues, list the queues that are there"
	case queuename.IsGroup(s.Topic, queue):
		return ErrQueueNotFound, GroupRemedy
	case queue != "" && queue != s.Queue:
		return ErrQueueNotFound, CreateRemedy(queue)
	case s.Queue != "":
		return ErrQueueNotFound, CreateRemedy(s.Queue) + ", or leave NoCreate unset"
	}
	return ErrNotInstalled, "run CREATE EXTENSION pgmq in this database"
}

// CreateRemedy returns how to create queue. If its name does not say the topic, a comment has to, which
// pgmq.create does not write.
func CreateRemedy(queue string) string {
	create := fmt.Sprintf("create it with SELECT pgmq.create('%s')", queue)
	if queuename.SaysTopic(queue) {
		return create
	}
	return create + ", or with SubscribeInitialize of its topic, which also notes the topic on the queue"
}

// isOfOthers reports whether pg is about a table that is not PGMQ's, which ezq never names without its schema.
func isOfOthers(pg *pgconn.PgError) bool {
	return strings.ContainsAny(pg.Message, `"»«„“`) && !strings.Contains(pg.Message, "pgmq.")
}

// createsNothing reports whether the operation is for queues that are there: that of a
// misspelled topic is not to be created.
func (s Subject) createsNothing() bool {
	return slices.Contains([]string{
		"measure", "purge", "purge dead letters", "list dead letters", "count dead letters", "read a dead letter",
		"edit a dead letter", OriginsOp, "redrive", "tune",
		"find", "cancel", "reschedule",
	}, s.Op)
}

// grants returns what the owner of the table has to run. The role is the reader's to fill
// in: the server does not say which one it was.
func (s Subject) grants(pg *pgconn.PgError) string {
	prefix, queue := s.relationOf(pg)
	switch {
	case prefix == queuename.ArchivePrefix:
		return fmt.Sprintf("let its owner run GRANT %s ON %s TO the role", s.archivePrivileges(), pgx.Identifier{"pgmq", prefix + queue}.Sanitize())
	case queue != "":
		return fmt.Sprintf("let its owner run GRANT %s ON %s TO the role", s.privileges(queue), queuename.Table(queue))
	case IsAbout(pg, ThrottleTable):
		return "let its owner run GRANT SELECT, UPDATE ON pgmq." + ThrottleTable + " TO the role, as which the trigger of pgmq.enable_notify_insert runs;" +
			" or, since ezq does without that trigger, let the owner of the queue run SELECT pgmq.disable_notify_insert of it"
	case IsAbout(pg, "meta") && s.Op == "list queues":
		return "let its owner run GRANT SELECT ON pgmq.meta TO the role"
	case IsAbout(pg, "meta"), IsAbout(pg, "topic_bindings"):
		return s.declaration(pg)
	case s.Queue != "" && s.Op != "replay" && s.Op != "purge the archive": // which look at the archive first
		create := fmt.Sprintf("SELECT pgmq.create('%s')", s.Queue)
		if queuename.IsGroup(s.Topic, s.Queue) {
			create = "SubscribeInitialize of a program that has that Group"
		}
		return fmt.Sprintf("if the queue does not exist, create it with %s; then let its owner run GRANT USAGE ON SCHEMA pgmq TO the role;"+
			" GRANT %s ON %s TO the role", create, s.privileges(s.Queue), queuename.Table(s.Queue))
	}
	return "let its owner run GRANT USAGE ON SCHEMA pgmq TO the role"
}

// declaration returns what to do if the role may not declare its queue.
func (s Subject) declaration(pg *pgconn.PgError) string {
	table, group := "pgmq.meta", ""
	if IsAbout(pg, "topic_bindings") {
		table = "pgmq.topic_bindings"
	}
	if queuename.IsGroup(s.Topic, s.Queue) || table == "pgmq.topic_bindings" {
		group = " of a program that has the same Group"
	}
	return fmt.Sprintf("let the queue be declared by its owner, with SubscribeInitialize%s; or, if this role is to create queues, let an administrator run"+
		" GRANT SELECT, INSERT ON %s TO the role", group, table)
}

// archivePrivileges returns what the operation takes on the archive.
func (s Subject) archivePrivileges() string {
	switch s.Op {
	case "purge the archive", "prune the archive":
		return "SELECT, UPDATE, DELETE"
	case "replay":
		return "SELECT"
	}
	return "SELECT, INSERT"
}

// namesIn returns the words of a message that may be names.
func namesIn(message string) []string {
	return strings.FieldsFunc(message, func(r rune) bool { return r != '_' && !isLowerOrDigit(r) })
}

// ThrottleTable is the table in the schema pgmq that the trigger of pgmq.enable_notify_insert writes to.
const ThrottleTable = "notify_insert_throttle"

// IsAbout reports whether err is what PostgreSQL says of a table that is not a queue: one of PGMQ's own, or of ezq's.
func IsAbout(err error, table string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.TableName == table || slices.Contains(namesIn(pg.Message), table))
}

// privileges returns what the operation takes on queue.
func (s Subject) privileges(queue string) string {
	switch s.Op {
	case "publish":
		return "INSERT (vt, message, headers)"
	case "dead-letter":
		if queue == s.Source { // it could be read and locked
			return "DELETE"
		}
		return "INSERT (vt, message, headers)"
	case "edit a dead letter":
		return "SELECT, UPDATE"
	case "measure":
		return "SELECT (vt)"
	case "list dead letters", "count dead letters", "read a dead letter", OriginsOp, "find":
		return "SELECT"
	}
	return "SELECT, UPDATE, DELETE"
}

// GroupRemedy is what to do about the queue of a group that is not there.
const GroupRemedy = "check the name of the Group; if it is right, let the owner declare its queue, with SubscribeInitialize of a program that has that Group, " +
	"or leave NoCreate unset"
