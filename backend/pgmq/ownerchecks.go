package pgmq

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
)

// untrustedTable is a table that ezq uses and that can have code run as each role that uses it: its
// owner, or the code that it has now, belongs to a role that this one has no reason to trust.
type untrustedTable struct {
	Table   string
	Owner   string
	Trusted bool   // the owner is trusted, and the code is not
	Code    bool   // there is such code, of a role that is not trusted either
	What    string // where Trusted: the function or relation of another role, and that role
	Of      string
}

// The current role trusts itself, the roles it is a member of, superusers, and the owners of the
// database, of the table's schema, and of a table that vouches for this one. A superuser is a
// member of all roles, and does not trust them for that.
//
// Code is what runs when a row is written or read: triggers, rules, policies, and functions in
// constraints, in defaults and in indexes. What a role that is not trusted has given it, by a function,
// or by a relation that a rule or a policy uses, stays when a table gets another owner. All rules and
// policies of an untrusted owner count.
const untrustedTablesSQL = `
with me as (select oid, rolsuper from pg_roles where rolname = current_user),
t as (
	select distinct c.oid, c.relowner, c.relnamespace from unnest($1::text[]) as name
	join pg_class c on c.oid = to_regclass(name)),
trusted as (
	select r.oid from pg_roles r, me
	where r.rolsuper or r.oid = me.oid or not me.rolsuper and pg_has_role(r.oid, 'member')
		or r.oid in (select datdba from pg_database where datname = current_database())
		or r.oid in (select nspowner from pg_namespace where oid in (select relnamespace from t))
		or r.oid in (select relowner from pg_class where oid = to_regclass(nullif($2::text, '')))),
parts as (
	select 'pg_constraint'::regclass as class, oid, conrelid as of, false as own from pg_constraint
	union all select 'pg_attrdef'::regclass, oid, adrelid, false from pg_attrdef
	union all select 'pg_class'::regclass, indexrelid, indrelid, false from pg_index
	union all select 'pg_trigger'::regclass, oid, tgrelid, false from pg_trigger where not tgisinternal
	union all select 'pg_rewrite'::regclass, oid, ev_class, true from pg_rewrite
	union all select 'pg_policy'::regclass, oid, polrelid, true from pg_policy),
code as (
	select t.oid, p.oid::regprocedure::text as what, p.proowner as of from t
	join parts on parts.of = t.oid
	join pg_depend d on d.classid = parts.class and d.objid = parts.oid and d.refclassid = 'pg_proc'::regclass
	join pg_proc p on p.oid = d.refobjid
	union all select t.oid, c.oid::regclass::text, c.relowner from t
	join parts on parts.of = t.oid and parts.own
	join pg_depend d on d.classid = parts.class and d.objid = parts.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> t.oid
	join pg_class c on c.oid = d.refobjid),
foreign_code as (select distinct on (oid) oid, what, of from code where of not in (select oid from trusted) order by oid, what),
checked as (select oid, relowner, relowner in (select oid from trusted) as trusted from t)
select t.oid::regclass::text, pg_get_userbyid(t.relowner), t.trusted,
	f.oid is not null or not t.trusted and exists (select from parts where parts.of = t.oid and parts.own),
	coalesce(f.what, ''), coalesce(pg_get_userbyid(f.of), '')
from checked t left join foreign_code f on f.oid = t.oid
where not t.trusted or f.oid is not null`

// untrustedTables returns those of tables that can run code of roles which are not trusted. The owner of
// the table vouching, if that is not "", is trusted as well.
func untrustedTables(ctx context.Context, db DBTX, tables []string, vouchingTable string) ([]untrustedTable, error) {
	rows, err := db.Query(ctx, untrustedTablesSQL, pgx.QueryExecModeCacheDescribe, tables, vouchingTable)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[untrustedTable])
}

// codeError returns why the table is not used, or nil. The remedy makes the table trusted only once
// its code is gone, which would run otherwise.
func (s untrustedTable) codeError() error {
	if !s.Code {
		return nil
	}
	cause := fmt.Errorf("the table %s belongs to the role %s, which this one has no reason to trust, and has a trigger, rule, policy or function that would run with the rights of this role",
		s.Table, s.Owner)
	if s.Trusted {
		cause = fmt.Errorf("the table %s has a trigger, rule, policy, constraint, default or index with %s, which belongs to the role %s,"+
			" which this one has no reason to trust, and would run with the rights of this role", s.Table, s.What, s.Of)
	}
	return &Error{
		Kind: ErrPermission, Cause: cause,
		Remedy: fmt.Sprintf("list what the table has, with SELECT pg_describe_object(classid, objid, 0) FROM pg_depend"+
			" WHERE refclassid = 'pg_class'::regclass AND refobjid = '%s'::regclass; see which role has made it, and drop the table,"+
			" or its triggers, rules, policies and functions of that role; only then, if it is to stay, let an administrator run"+
			" ALTER TABLE … OWNER TO the owner of the schema or of the queue (docs/postgres.md, Roles)", strings.ReplaceAll(s.Table, "'", "''")),
	}
}

// ownerChecks is the tables of untrusted roles that were told of, and the queues whose dead letters
// may go to another.
type ownerChecks struct {
	mu      sync.Mutex
	warned  map[string]struct{}
	trusted map[string]struct{}
}

func (c *ownerChecks) trusts(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.trusted[from+" "+to]
	return ok
}

func (c *ownerChecks) trust(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trusted == nil {
		c.trusted = map[string]struct{}{}
	}
	setBounded(c.trusted, from+" "+to, struct{}{})
}

// check returns an error if one of tables would run the code of an untrusted role. It logs once that one
// could do so.
func (c *ownerChecks) check(ctx context.Context, db DBTX, logger *slog.Logger, tables []string, vouchingTable string) error {
	found, err := untrustedTables(ctx, db, tables, vouchingTable)
	if err != nil {
		return err
	}
	for _, s := range found {
		if err := s.codeError(); err != nil {
			return err
		}
		if c.firstSeen(s) {
			logger.Warn("ezq: a table belongs to a role that this one has no reason to trust, and that can have code run with the rights of"+
				" this one: let both have one owner, or set NoCreate if a trusted administrator creates the queues", "table", s.Table, "owner", s.Owner)
		}
	}
	return nil
}

// firstSeen reports whether this is the first time that s is seen.
func (c *ownerChecks) firstSeen(s untrustedTable) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned == nil {
		c.warned = map[string]struct{}{}
	}
	key := s.Table + " " + s.Owner
	_, seen := c.warned[key]
	setBounded(c.warned, key, struct{}{})
	return !seen
}
