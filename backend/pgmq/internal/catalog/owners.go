package catalog

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/schema"
)

//go:embed sql/untrusted_tables.sql
var untrustedTablesSQL string

// withTrustedRoles returns the statement in a file that begins with the roles that the current one trusts.
func withTrustedRoles(file string) string {
	return strings.Replace(sqlfile.Text(file), "{trusted roles}", sqlfile.Text(schema.TrustedRolesSQL()), 1)
}

// untrustedTable is a table that ezq uses and that can have code run as each role that uses it: its
// owner, or the code that it has now, belongs to a role that this one has no reason to trust.
type untrustedTable struct {
	Table   string
	Owner   string
	Trusted bool   // the owner is trusted, and the code is not
	Code    bool   // there is such code, of a role that is not trusted either
	What    string // the function or relation of another role, or what is on the table that neither PGMQ nor ezq makes
	Of      string // that role, or ""
}

// untrustedTables returns those of tables that can run code of roles which are not trusted.
func untrustedTables(ctx context.Context, db transact.Queryer, tables []string, vouchingTable string) ([]untrustedTable, error) {
	rows, err := db.Query(ctx, withTrustedRoles(untrustedTablesSQL), pgx.QueryExecModeCacheDescribe, tables, vouchingTable)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[untrustedTable])
}

// VouchingTable returns the table whose owner vouches for other tables, "" for none. It is that of queue if an
// administrator creates the queues: any other role can have made a queue that runs no code, to vouch for one that does.
func VouchingTable(administered bool, queue string) string {
	if !administered {
		return ""
	}
	return queuename.Table(queue)
}

// RequireTrusted returns an error if one of tables would run the code of an untrusted role. The owner of
// vouchingTable, if that is not "", is trusted as well.
func RequireTrusted(ctx context.Context, db transact.Queryer, tables []string, vouchingTable string) error {
	found, err := untrustedTables(ctx, db, tables, vouchingTable)
	for _, table := range found {
		err = cmp.Or(err, table.codeError())
	}
	return err
}

// Refused returns, by table, why those of tables are not used that would run the code of an untrusted role.
func Refused(ctx context.Context, db transact.Queryer, tables []string) (map[string]error, error) {
	found, err := untrustedTables(ctx, db, tables, "")
	refused := map[string]error{}
	for _, table := range found {
		if why := table.codeError(); why != nil {
			refused[table.Table] = why
		}
	}
	return refused, err
}

// RefusedEach is Refused for each of tables by itself, which it gives to tell with what is refused of it: the code can be that
// of a partition or a child, and looking at several together does not say whose that is. Tables behind an error are not told of.
func RefusedEach(ctx context.Context, db transact.Queryer, tables []string, tell func(table string, refused map[string]error)) error {
	together, err := Refused(ctx, db, tables)
	if err != nil {
		return err
	}
	for _, table := range tables {
		refused := together
		if len(together) > 0 {
			if refused, err = Refused(ctx, db, []string{table}); err != nil {
				return err
			}
		}
		tell(table, refused)
	}
	return nil
}

// codeError returns why the table is not used, or nil. The remedy makes the table trusted only once
// its code is gone, which would run otherwise.
func (s untrustedTable) codeError() error {
	if !s.Code {
		return nil
	}
	cause := fmt.Errorf("the table %s belongs to the role %s, which this one has no reason to trust, and has what neither PGMQ nor ezq makes, and what can run code with the rights of this role: %s",
		s.Table, s.Owner, s.What)
	if s.Trusted {
		cause = fmt.Errorf("the table %s has a trigger, rule, policy, constraint, default, index, statistics, column or key of partitions with %s, which belongs to the role %s,"+
			" which this one has no reason to trust, and would run with the rights of this role", s.Table, s.What, s.Of)
	}
	return &fault.Error{
		Kind: fault.ErrPermission, Cause: cause,
		Remedy: fmt.Sprintf("list what the table has, with SELECT pg_catalog.pg_describe_object(classid, objid, 0) FROM pg_depend"+
			" WHERE refclassid = 'pg_class'::regclass::oid AND refobjid = %s::regclass::oid; see which role has made it, and drop the table,"+
			" or its triggers, rules, policies and functions of that role; only then, if it is to stay, let an administrator run"+
			" ALTER TABLE … OWNER TO the owner of the schema or of the queue (docs/postgres.md, Roles)", sqlfile.Literal(s.Table)),
	}
}

// OwnerChecks is the tables of untrusted roles that were told of, and the queues whose dead letters
// may go to another.
type OwnerChecks struct {
	mu      sync.Mutex
	warned  map[string]struct{}
	trusted map[string]struct{}
}

// Trusts reports whether dead letters may go from one queue to another.
func (c *OwnerChecks) Trusts(from, to string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.trusted[from+" "+to]
	return ok
}

// Trust notes that dead letters may go from one queue to another.
func (c *OwnerChecks) Trust(from, to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trusted == nil {
		c.trusted = map[string]struct{}{}
	}
	bounded.Set(c.trusted, from+" "+to, struct{}{})
}

// Check returns an error if one of tables would run the code of an untrusted role. It logs once that one
// could do so.
func (c *OwnerChecks) Check(ctx context.Context, db transact.Queryer, logger *slog.Logger, tables []string, vouchingTable string) error {
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
				" this one: let both have one owner, or, of a queue that a trusted administrator has created, set NoCreate", "table", s.Table, "owner", s.Owner)
		}
	}
	return nil
}

// firstSeen reports whether this is the first time that s is seen.
func (c *OwnerChecks) firstSeen(s untrustedTable) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.warned == nil {
		c.warned = map[string]struct{}{}
	}
	key := s.Table + " " + s.Owner
	_, seen := c.warned[key]
	bounded.Set(c.warned, key, struct{}{})
	return !seen
}
