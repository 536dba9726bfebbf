package pgmq

import (
	"fmt"
	"strings"
	"time"
)

// statements is the SQL for one queue. It works on the tables that PGMQ
// creates and not through its functions, for four reasons: pgmq.read walks past
// every leased and delayed message; pgmq.delete and pgmq.set_vt do not check
// the lease; and the functions differ between versions of PGMQ, which the
// columns used here do not.
//
// The parameters of settling statements are arrays of the same length.
type statements struct {
	oid    uint32 // of the table
	claim  string // limit, lease in µs, largest size
	lock   string // limit, largest size
	lease  string // limit, lease in µs, ids to pass by: claims without reading
	read   string // ids, read counts, largest size, read times, whether they were leased before
	next   string // ids to pass by
	later  string
	ack    string // ids, read counts, read times
	ackOne string // the same, and waits for locked rows
	nack   string // ids, read counts, read times, delays in µs or null, headers to merge, reads to take back
	extend string // ids, read counts, read times, lease in µs
	exist  string // ids, read counts, read times

	due   string // limit, ids to pass by: what a claim would lease, and the newest id
	touch string // ids, lease in µs: leases without looking at vt
	there string // ids

	hide         string // ids, read counts, read times, delays in µs, headers or null, whether to merge them
	minimumSize  string // ids, largest size
	suspicious   string // ids, size
	removeForged string // ids, read counts, read times, whether the id goes as well: removes what only ezq may say

	share        string // keeps out locks of the whole table, before anything is locked
	removeLocked string // ids; empty if ack does more than that
	leaseLocked  string // ids, lease in µs
	release      string // ids

	fences *strings.Replacer // for deadLetter
}

// newStatements returns the statements for a queue. A queue from before PGMQ
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
func newStatements(queue string, layout queueLayout) statements {
	table := tableName(queue)
	replace := []string{
		"{table}", table, "{same}", "m.read_ct = t.number", "{read}", "now()", "{was}", "now()", "{mark}", "", "{uncount}", "greatest(m.read_ct, 0)",
		"{end}", endSQL, "{known}", "true", "{held}", "true",
	}
	if layout.has("last_read_at timestamptz") {
		// If it was never leased, this tells it from a message that has its id in the
		// next queue of the same name.
		touched := finite("coalesce(m.last_read_at, m.enqueued_at)")
		replace = []string{
			"{table}", table,
			"{same}", "m.read_ct = t.number and " + touched + " = t.at",
			"{read}", "m.last_read_at",
			"{was}", touched,
			"{mark}", ", last_read_at = clock_timestamp()",
			"{uncount}", "greatest(m.read_ct, l.uncount) - l.uncount",
			"{end}", markedEnd, "{known}", knownByEnd, "{held}", knownBefore,
		}
	}
	if layout.Partitioned {
		replace = append(replace, "{place}", "msg_id", "{latest}", "for update of m")
	}
	replace = append(replace, "{count}", countSQL, "{place}", "ctid", "{latest}", "", "{published}", finite("m.enqueued_at"), "{visible}", finite("m.vt"),
		"{most}", fmt.Sprint(maxHeaders),
		"{oid}", "'"+table+"'::regclass::oid", "{current}", fmt.Sprintf("'%s'::regclass::oid = %d::oid", table, layout.OID))
	fences := strings.NewReplacer(replace...)
	sql := fences.Replace
	return statements{
		oid: layout.OID, claim: sql(passing(claimSQL, "")), lock: sql(lockSQL), lease: sql(passing(leaseSQL, "$3")), read: sql(readSQL), next: sql(nextSQL), later: sql(laterSQL),
		ack: sql(ackSQL), ackOne: waitingForLocks(sql(ackSQL)), nack: sql(nackSQL), extend: sql(extendSQL), exist: sql(existSQL), removeForged: sql(removeForgedSQL),
		due: sql(dueSQL), touch: sql(touchSQL), there: sql(thereSQL),
		hide: sql(hideSQL), minimumSize: sql(withMinimumSize(minimumSizeSQL)), suspicious: sql(suspecting(suspiciousSQL)),
		share: sql(strings.Replace(shareSQL, "{also}", "", 1)), removeLocked: sql(removeLockedSQL), leaseLocked: sql(leaseLockedSQL), release: sql(releaseSQL), fences: fences,
	}
}

// finite is a time, or 1970 if it is missing, or infinite, which only another program
// can have written and no time.Time can hold.
func finite(column string) string {
	return "case when isfinite(" + column + ") then " + column + " else 'epoch' end"
}

// countSQL counts a delivery. Where others have written a count that is none, the first is 1,
// and the last that an integer can hold stays: it must not fail, for other messages come with
// this one. Where there is no last_read_at, two leases of such a message are the same.
const countSQL = "greatest(least(m.read_ct, 2147483646), 0) + 1"

// passing returns sql, which passes by the messages whose ids are in a parameter, if there is one.
func passing(sql, parameter string) string {
	condition := ""
	if parameter != "" {
		condition = " and msg_id <> all(" + parameter + "::bigint[])"
	}
	return strings.Replace(sql, "{passing}", condition, 1)
}

// waitingForLocks returns sql with waiting for rows that are locked, in place of passing them by, but not for
// long: the transaction that waits keeps a connection from others.
func waitingForLocks(sql string) string {
	bounded := fmt.Sprintf(" where set_config('lock_timeout', '%d', true) is not null order by id)", ackWait.Milliseconds())
	return strings.Replace(strings.Replace(sql, " skip locked", "", 1), " order by id)", bounded, 1)
}

// deadLetter moves messages to another table. Its parameters are ids, read
// counts, read times, headers to merge.
func (s statements) deadLetter(target string) string {
	return strings.ReplaceAll(s.fences.Replace(deadLetterSQL), "{target}", target)
}

// The comparison is with statement_timestamp and not, as in pgmq.read, with the
// volatile clock_timestamp, which no index can serve.
//
// The order is that of the index on vt, with the messages of one time sorted by their ids:
// an incremental sort, see planSQL.
const claimedSQL = `
with m as (
	update {table} m
	set vt = {end}, read_ct = {count}{mark}
	where m.{place} = any (array(
		select {place} from {table}
		where {current} and vt <= statement_timestamp(){passing}
		order by vt, msg_id
		limit $1
		for update skip locked))
	returning m.msg_id, m.read_ct, {read} as read_at, {published} as enqueued_at, m.vt`

const claimSQL = claimedSQL + `, {known} as known` + contentSQL + `)` + fittingSQL

// The locked rows, and what they were before. PostgreSQL notes in a row which
// transaction locked it last: that shows which ones were locked before, and not
// removed.
const lockSQL = `
with l as (
	select {place}, read_ct > 0 or xmax <> 0 as again from {table}
	where {current} and vt <= statement_timestamp()
	order by vt, msg_id
	limit $1
	for update skip locked),
m as materialized (
	select m.msg_id, m.read_ct, {was} as read_at, {published} as enqueued_at, {visible} as vt, {held} as known` + contentSQL + `
	from {table} m
	where m.{place} = any (array(select {place} from l)) {latest})` + lockedFittingSQL

// Of all that a lock and its end do. A stronger lock at the end would wait for an index
// that is being built, or for a session that waits for the weaker one.
const shareSQL = `lock table {table}{also} in row exclusive mode`

// For a lock, which has locked the rows.
const removeLockedSQL = `delete from {table} where msg_id = any($1::bigint[])`

const leaseLockedSQL = `
update {table} m
set vt = clock_timestamp() + $2::bigint * interval '1 microsecond', read_ct = {count}{mark}
where msg_id = any($1::bigint[])
returning m.msg_id, m.read_ct, {read}`

// As a release does to those of the same batch that were leased at its end: vt is a little
// later, and one of them must not overtake the other.
const releaseSQL = `update {table} m set vt = ` + placeSQL + ` where msg_id = any($1::bigint[])`

// placeSQL is where a message goes back to.
const placeSQL = "least(m.enqueued_at, clock_timestamp())"

const leaseSQL = claimedSQL + `, {known} as known)
select msg_id, read_ct, read_at, known from m`

// The messages that a claim leases, unless other sessions have locked them; and the newest
// message, whatever its vt.
const dueSQL = `
select msg_id, (select msg_id from {table} order by msg_id desc limit 1) as newest from {table}
where {current} and vt <= statement_timestamp() and msg_id <> all($2::bigint[])
order by vt, msg_id
limit $1`

// The update of a claim.
const touchSQL = `
update {table} m
set vt = {end}, read_ct = {count}{mark}
where m.{place} = any (array(
	select {place} from {table} where {current} and msg_id = any($1::bigint[]) for update skip locked))
returning msg_id`

const thereSQL = `select msg_id from {table} where msg_id = any($1::bigint[])`

// Without "materialized", PostgreSQL would write each row out again for each use of its text and
// of its size.
const readSQL = `
with m as materialized (
	select m.msg_id, m.read_ct, t.at as read_at, {published} as enqueued_at, m.vt, t.known` + contentSQL + `
	from {table} m join unnest($1::bigint[], $2::int[], $4::timestamptz[], $5::boolean[]) as t(id, number, at, known)
		on m.msg_id = t.id and {same}
	where m.msg_id = any($1))` + fittingSQL

// The size of the content is known when it has been made, and that is done once.
const contentSQL = `, m.message::text as message, m.headers::text as headers`

const fittingSQL = `
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $3 then message end, case when size between 0 and $3 then headers end, size, known` + sizedSQL

const lockedFittingSQL = `
select msg_id, read_ct, read_at, enqueued_at, vt,
	case when size between 0 and $2 then message end, case when size between 0 and $2 then headers end, size, known,
	(select bool_or(again) from l)` + sizedSQL

// The size is that of the headers, and less than 0, if those are too large by themselves.
const sizedSQL = `
from (select *, case when octet_length(headers) > {most} then -octet_length(headers)::bigint
	else coalesce(octet_length(message), 0)::bigint + coalesce(octet_length(headers), 0) end as size from m) as m`

// The limit makes PostgreSQL read one entry of the index. For min(vt) it reads all where it
// expects one row.
const (
	nextSQL  = untilSQL + `(select vt from {table} where msg_id <> all($1::bigint[]) order by vt limit 1) as vt) as m`
	laterSQL = untilSQL + `(select vt from {table} where vt > statement_timestamp() order by vt limit 1) as vt) as m
where ` + noTimeoutSQL  // visible rows may be locked
	untilSQL = `
select (extract(epoch from case when isfinite(vt) then vt - clock_timestamp()
	when vt = '-infinity' then interval '0' when vt = 'infinity' then interval '1 day' end) * 1000000)::bigint, {oid}
from (select `
)

// noTimeoutSQL is true. Locked rows are settled in the same transaction,
// whatever time that takes.
const noTimeoutSQL = "set_config('statement_timeout', '0', true) is not null"

// Settling and extending wait for no row: one that others have locked would keep all that
// come with it. It is passed by, and tried again. Those that can be had are locked in the
// order of their ids, whatever the order of the arrays, for other sessions, which do wait.
//
// Each is looked up by itself: where PostgreSQL expects few rows in the queue, a join reads
// all of them, and compares each with each id. A lateral subquery that locks cannot be made
// one. Statements that change the rows name them twice for the same reason: see planSQL.
const lockedSQL = `t cross join lateral (
		select m.msg_id from {table} m
		where m.msg_id = t.id and {same}
		for update skip locked) m`

const ackSQL = `
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from ` + lockedSQL + `)
delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id`

// A message without a delay is released to its place, before those published after it, and
// not to one still to come, where it would be invisible. Headers that are not an object
// are not ezq's and stay as they are.
const nackSQL = `
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[], $6::int[])
	as t(id, number, at, delay, headers, uncount) order by id),
l as (
	select m.msg_id, t.delay, t.headers, t.uncount from ` + lockedSQL + `)
update {table} m
set vt = case when l.delay is null then ` + placeSQL + ` else clock_timestamp() + l.delay * interval '1 microsecond' end,
	read_ct = {uncount},
	headers = case
		when l.headers is null then m.headers
		when m.headers is null then l.headers::jsonb
		when jsonb_typeof(m.headers) = 'object' then m.headers - 'ezq_unknown_since' || l.headers::jsonb
		else m.headers end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id`

// One statement: a message is in one of the tables at any time.
const deadLetterSQL = `
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::text[]) as t(id, number, at, headers) order by id),
l as (
	select m.msg_id, t.headers from ` + lockedSQL + `),
d as (
	delete from {table} m using l where m.msg_id = any($1) and m.msg_id = l.msg_id
	returning m.msg_id, m.message, m.headers, l.headers as added),
i as (
	insert into {target} (vt, message, headers)
	select clock_timestamp(), d.message,
		case when jsonb_typeof(d.headers) = 'object' then d.headers - array['ezq_failures', 'ezq_done', 'ezq_unknown_since'] else '{}' end || d.added::jsonb
	from d order by d.msg_id)
select msg_id from d`

const extendSQL = `
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) order by id),
l as (
	select m.msg_id from ` + lockedSQL + `)
update {table} m set vt = clock_timestamp() + $4::bigint * interval '1 microsecond'
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id`

// Which messages there are, and whether under the tokens that they are asked for with.
const existSQL = `
select m.msg_id, coalesce({same}, false) from {table} m
join unnest($1::bigint[], $2::int[], $3::timestamptz[]) as t(id, number, at) on m.msg_id = t.id
where m.msg_id = any($1)`

// hideSQL makes messages invisible for some time, and adds a reason to their headers, or
// replaces them with it. Headers that are not an object mean nothing.
const hideSQL = `
with t as (
	select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::bigint[], $5::text[])
	as t(id, number, at, delay, headers) order by id),
l as (
	select m.msg_id, t.delay, t.headers from ` + lockedSQL + `)
update {table} m
set vt = clock_timestamp() + l.delay * interval '1 microsecond',
	headers = case
		when l.headers is null then m.headers
		when not $6::boolean then l.headers::jsonb
		when jsonb_typeof(m.headers) = 'object' then m.headers || l.headers::jsonb
		else l.headers::jsonb end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id returning m.msg_id`

// A number of many digits takes a few bytes as it is stored, and thousands of those a few more. To
// look for one is quick: PostgreSQL compares numbers without writing them out. They are made an array
// first, because jsonb_path_query moves all that it has found for each row that it returns: the time
// for 100,000 numbers would grow with their square.
const suspiciousSQL = `
select m.msg_id from {table} m
where m.msg_id = any($1::bigint[]) and case
	when coalesce(pg_column_size(m.message), 0) + coalesce(pg_column_size(m.headers), 0) > $2 then true
	else {long message} or {long headers} end`

// suspecting returns the statement that finds messages which may be large when they are
// read. Its parameters are ids, and how much they may take as they are stored.
func suspecting(sql string) string {
	for _, column := range [...]string{"message", "headers"} {
		sql = strings.ReplaceAll(sql, "{long "+column+"}", fmt.Sprintf(`coalesce(jsonb_path_exists(m.%[1]s, '$.** ? (@.type() == "number" && (@ >= 1e40 || @ <= -1e40))'), false)
		or exists (select from (select jsonb_array_elements(jsonb_path_query_array(m.%[1]s, '$.** ? (@.type() == "number")')) as n offset 0) as m where scale(n::numeric) > 40)`, column))
	}
	return sql
}

// minimumSizeSQL finds how large messages are at least when they are read: the text in them, and
// the digits of their numbers, of which it counts half of those before the point or more. It
// goes no further than to the largest size, which is its second parameter.
const minimumSizeSQL = `
select m.msg_id, greatest({weight message}, {weight headers}) from {table} m
where m.msg_id = any($1::bigint[])`

func withMinimumSize(sql string) string {
	var digits strings.Builder
	digits.WriteString("case")
	for n := 65536; n >= 16; n /= 2 {
		fmt.Fprintf(&digits, " when abs(n::numeric) >= 1e%d then %d", n, n)
	}
	digits.WriteString(" else 1 end + scale(n::numeric)")
	for _, column := range [...]string{"message", "headers"} {
		sql = strings.ReplaceAll(sql, "{weight "+column+"}", fmt.Sprintf(`coalesce((
	select total from (select sum(size) over (rows unbounded preceding) as total from (
		select case jsonb_typeof(n) when 'string' then octet_length(n #>> '{}') else %[2]s end as size
		from (select jsonb_array_elements(jsonb_path_query_array(m.%[1]s, 'strict $.** ? (@.type() == "number" || @.type() == "string")')) as n offset 0) as n) as n) as n
	where total > $2::bigint limit 1), 0)`, column, digits.String()))
	}
	return sql
}

// A lease writes over what tells, and can only return what it has written. So the time at which
// it ends has whole milliseconds, or one microsecond more if it is the first lease of the message.
const (
	endSQL      = "clock_timestamp() + $2::bigint * interval '1 microsecond'"
	markedEnd   = "date_trunc('milliseconds', " + endSQL + ") + case when " + knownBefore + " then interval '0' else interval '1 microsecond' end"
	knownBefore = "(m.read_ct > 0 or m.last_read_at is not null)"
	knownByEnd  = "m.vt = date_trunc('milliseconds', m.vt)"
)

// Headers that another transaction committed meanwhile stay.
const removeForgedSQL = `
with t as (select * from unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::boolean[]) as t(id, number, at, named) order by id),
l as (
	select m.msg_id, t.named from ` + lockedSQL + `)
update {table} m
set headers = m.headers - array['` + failuresKey + `', '` + doneKey + `', '` + unknownKey + `'] - case when l.named then array['` + uuidKey + `'] else '{}' end
from l where m.msg_id = any($1) and m.msg_id = l.msg_id`

// ackWait is how long an ack in a handler's transaction waits for a lock. Another consumer that renews
// the lease, or takes it away, has the row for milliseconds.
const ackWait = 3 * time.Second
