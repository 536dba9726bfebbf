// Package statement has the SQL that consumes a queue: one file below sql for each statement, with what it
// does and what its parameters are. It sends nothing: package lease does.
//
// To try a statement in psql, put these in the place of what is in braces:
//
//   - {table}, {archive}, {target}: the tables, as in pgmq.q_orders, pgmq.a_orders and
//     pgmq.q_orders_dead. {queue} is the name of the queue, as a string.
//   - {same}: a message of the table m has the token t. Each lease has another one.
//   - {read}, {was}: when m was leased last, and the same of one that perhaps was never leased.
//   - {mark}, {uncount}: note that m is leased now, and take that back.
//   - {end}, {known}, {held}: when a lease ends, and whether m was leased before, as the end of its
//     lease tells, and as a row tells that is not leased yet.
//   - {place}, {latest}: what finds a row, ctid or msg_id, and a lock where the latter needs it.
//   - {also}, {m.also}: columns that the table and its archive have in newer versions of PGMQ.
//   - {all stored}: as many rows were inserted as were deleted.
//   - {current}, {oid}: whether the table is the one that it was; and which one it is.
//   - {most}: the most bytes of headers.
//
// The test of this package prints them for each kind of queue: see testdata.
package statement

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
)

// Set is the SQL for one queue. It works on the tables that PGMQ
// creates and not through its functions, for four reasons: pgmq.read walks past
// every leased and delayed message; pgmq.delete and pgmq.set_vt do not check
// the lease; and the functions differ between versions of PGMQ, which the
// columns used here do not.
//
// The parameters of settling statements are arrays of the same length.
type Set struct {
	OID         uint32 // of the table
	Claim       string // limit, lease in µs, largest size
	Lock        string // limit, largest size
	Lease       string // limit, lease in µs, ids to pass by: claims without reading
	Read        string // ids, read counts, largest size, read times, whether they were leased before
	Next        string // ids to pass by
	Later       string
	Ack         string // ids, read counts, read times
	AckOne      string // the same, and waits for locked rows
	Nack        string // ids, read counts, read times, delays in µs or null, headers to merge, reads to take back
	Extend      string // ids, read counts, read times, lease in µs
	CheckTokens string // ids, read counts, read times

	Due      string // limit, ids to pass by: what a claim would lease, and the newest id
	TryLease string // ids, lease in µs, for how many µs: leases without looking at vt
	Existing string // ids

	Hide         string // ids, read counts, read times, delays in µs, headers or null, whether to merge them
	MinimumSize  string // ids, largest size
	Suspicious   string // ids, size
	RemoveForged string // ids, read counts, read times, whether the id goes as well: removes what only ezq may say

	LockTable    string // keeps out locks of the whole table, before anything is locked
	RemoveLocked string // ids; empty if ack does more than that
	LeaseLocked  string // ids, lease in µs
	Release      string // ids

	Quarantine string // as Ack, of messages that are not handled; only if acks move messages to the archive

	deadLetter string
	names      *strings.Replacer // of what is in braces
}

//go:embed sql
var files embed.FS

// read returns the statement in a file.
func read(name string) string {
	text, _ := files.ReadFile("sql/" + name + ".sql") // TestStatements_AreStable names each
	return sqlfile.Text(string(text))
}

// New returns the statements for a queue. A queue from before PGMQ
// 1.10 has no last_read_at; the read count alone is then the fence. It can
// collide after a failover to a server that had not received the last lease.
//
// In a partitioned table several rows have the same ctid, one in each partition. They
// are found by their ids there, which takes longer; and a row that has changed since the
// statement began is then seen as it was, unless it is locked where it is read.
//
// They are for the table that layout is of. If there is another one now, of the same
// name, those that choose rows choose none: its kind and columns may differ. PostgreSQL
// compares the two as it plans the statement.
func New(queue string, layout catalog.Layout) Set {
	layoutNames := strings.NewReplacer(namesOf(queue, layout)...)
	sql := func(name string) string { return layoutNames.Replace(read(name)) }
	ack := sql("ack")
	return Set{
		OID: layout.OID, Claim: sql("claim"), Lock: sql("lock"), Lease: sql("lease"), Read: sql("read"), Next: sql("next"), Later: sql("later"),
		Ack: ack, AckOne: waitingForLocks(ack), Nack: sql("nack"), Extend: sql("extend"), CheckTokens: sql("check_tokens"), RemoveForged: sql("remove_forged"),
		Due: sql("due"), TryLease: sql("try_lease"), Existing: sql("existing"),
		Hide: sql("hide"), MinimumSize: sql("minimum_size"), Suspicious: sql("suspicious"),
		LockTable: strings.Replace(sql("lock_table"), "{also}", "", 1), RemoveLocked: sql("remove_locked"), LeaseLocked: sql("lease_locked"), Release: sql("release"),
		deadLetter: strings.Replace(sql("dead_letter"), "{all stored}", catalog.AllStored("d", "i"), 1), names: layoutNames,
	}
}

// namesOf returns what stands for the names in braces, where that depends on the queue and its layout.
//
// A lease writes over what tells that it is not the first, and can only return what it has written. So
// the time at which it ends has whole milliseconds, or one microsecond more if it is the first lease
// of the message.
func namesOf(queue string, layout catalog.Layout) []string {
	const (
		end         = "clock_timestamp() + $2::bigint::double precision * interval '1 microsecond'"
		knownBefore = "(m.read_ct > 0 or m.last_read_at is not null)"
	)
	table := queuename.Table(queue)
	names := []string{
		"{table}", table, "{most}", fmt.Sprint(codec.MaxHeaders),
		"{oid}", sqlfile.Literal(table) + "::regclass::oid", "{current}", fmt.Sprintf("%s::regclass::oid = %d::oid", sqlfile.Literal(table), layout.OID),
	}
	if layout.Has("last_read_at timestamptz") {
		// If it was never leased, this tells it from a message that has its id in the
		// next queue of the same name.
		touched := Finite("coalesce(m.last_read_at, m.enqueued_at)")
		names = append(names,
			"{same}", "m.read_ct = t.number and "+touched+" = t.at",
			"{read}", "m.last_read_at", "{was}", touched,
			"{mark}", ", last_read_at = clock_timestamp()",
			"{uncount}", "greatest(m.read_ct, l.uncount) - l.uncount",
			"{end}", "pg_catalog.date_trunc('milliseconds', "+end+") + case when "+knownBefore+" then interval '0' else interval '1 microsecond' end",
			"{known}", "m.vt = pg_catalog.date_trunc('milliseconds', m.vt)", "{held}", knownBefore)
	} else {
		names = append(names,
			"{same}", "m.read_ct = t.number", "{read}", "now()", "{was}", "now()", "{mark}", "", "{uncount}", "greatest(m.read_ct, 0)",
			"{end}", end, "{known}", "true", "{held}", "true")
	}
	if layout.Partitioned {
		return append(names, "{place}", "msg_id", "{latest}", "for update of m")
	}
	return append(names, "{place}", "ctid", "{latest}", "")
}

// Finite is a time, or 1970 if it is missing, or infinite, which only another program
// can have written and no time.Time can hold.
func Finite(column string) string {
	return "case when pg_catalog.isfinite(" + column + ") then " + column + " else 'epoch' end"
}

// HeadersAreSmall tells, without reading them, that headers are no larger than those that consumers take.
func HeadersAreSmall() string {
	return fmt.Sprintf("coalesce(pg_catalog.pg_column_size(headers), 0) <= %d", codec.MaxStoredHeaders)
}

// ackWait is how long an ack in a handler's transaction waits for a lock. Another consumer that extends
// the lease, or takes it away, has the row for milliseconds.
const ackWait = 3 * time.Second

// waitingForLocks returns sql with waiting for rows that are locked, in place of passing them by, but not for
// long: the transaction that waits keeps a connection from others.
func waitingForLocks(sql string) string {
	bounded := fmt.Sprintf(" where pg_catalog.set_config('lock_timeout', '%d', true) is not null order by id)", ackWait.Milliseconds())
	return strings.Replace(strings.Replace(sql, " skip locked", "", 1), " order by id)", bounded, 1)
}

// DeadLetter moves messages to another table. Its parameters are ids, read
// counts, read times, headers to merge.
func (s Set) DeadLetter(target string) string {
	return strings.ReplaceAll(s.deadLetter, "{target}", target)
}

// Archiving returns the statements with acks that move messages to the archive of queue. The two tables
// have columns in common.
func (s Set) Archiving(queue string, columns []string) Set {
	also := []string{"{also}", "", "{m.also}", ""}
	if slices.Contains(columns, "last_read_at") { // PGMQ 1.10
		also = []string{"{also}", ", last_read_at", "{m.also}", ", m.last_read_at"}
	}
	archive := queuename.Archive(queue)
	s.RemoveLocked = "" // deletes
	s.LockTable = s.names.Replace(strings.Replace(read("lock_table"), "{also}", ", "+archive, 1))
	archived := s.names.Replace(strings.NewReplacer(append(also, "{archive}", archive, "{queue}", sqlfile.Literal(queue), "{all stored}", catalog.AllStored("d", "s"))...).Replace(read("archive")))
	s.Ack, s.Quarantine = strings.ReplaceAll(archived, "{vt}", "vt"), strings.ReplaceAll(archived, "{vt}", "'infinity'::timestamptz")
	s.AckOne = waitingForLocks(s.Ack)
	return s
}
