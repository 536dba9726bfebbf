// Package setup puts PGMQ into a database, and what ezq adds to it; and updates both. It looks at what is there, plans
// the steps that are missing, and runs them in one transaction.
package setup

import (
	"context"
	_ "embed"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
	"github.com/ezq-go/ezq/internal/schema"
)

// State is what there is in a database, and what the role may do there.
type State struct {
	Server     int // as in 170002
	Role       string
	Database   string
	Standby    bool
	ReadOnly   bool
	MayCreate  bool   // a schema in the database
	Available  string // the version of the extension pgmq that the server would install, "" if it has none
	Superuser  bool   // the role is not one, and that extension needs one
	Extension  string // the version of the extension in this database, "" if it is not there
	Owner      string // of the schema pgmq, "" if there is none
	Trusted    bool   // that owner is trusted
	MayExtend  bool   // the role may create in the schema
	Owns       bool   // the role has the rights of that owner
	Installed  bool   // pgmq.create is there
	Foreigners []string
	Things     []string // tables and functions in the schema
	IDs        []string // the columns of the table of IDs
	Pauses     []string // those of the table of pauses
	Marks      []string // the versions of which something is there that the version before did not have, in their order
}

//go:embed sql/state.sql
var stateSQL string

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// look returns what there is.
func look(ctx context.Context, db querier) (State, error) {
	sql := strings.Replace(withoutComments(stateSQL), "{trusted roles}", withoutComments(schema.TrustedRolesSQL()), 1)
	rows, err := db.Query(ctx, sql, pgx.QueryExecModeExec) // prepares nothing, which a pooler could lose
	if err != nil {
		return State{}, err
	}
	return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[State])
}

func withoutComments(file string) string {
	var sql strings.Builder
	for line := range strings.Lines(file) {
		if !strings.HasPrefix(line, "--") {
			sql.WriteString(line)
		}
	}
	return strings.TrimSpace(sql.String())
}

// Version returns the version of PGMQ that is installed, "" if there is none. Installed as plain SQL it has none, and goes
// by what is there: then it is the newest of which all marks are there, and may be a newer one than ezq knows.
func (s State) Version() string {
	switch {
	case s.Extension != "":
		return s.Extension
	case !s.Installed:
		return ""
	}
	known := "0"
	for _, mark := range marks() {
		if !slices.Contains(s.Marks, mark) {
			break
		}
		known = mark
	}
	return known
}

// marks are the versions that can be told apart. Between two of them, the scripts that update do no harm if they are run
// again.
func marks() []string {
	return []string{"1.5.0", "1.6.0", "1.7.0", "1.8.0", "1.8.1", "1.9.0", "1.10.0", "1.10.1", "1.11.0", "1.11.1"}
}

// atLeast returns the version as people are told: of plain SQL the last known one may be a newer one.
func (s State) atLeast() string {
	version := s.Version()
	switch {
	case version == "0":
		return "older than " + official.Oldest
	case s.Extension == "" && version == marks()[len(marks())-1]:
		return version + " or later"
	}
	return version
}

func (s State) has(name string) bool { return slices.Contains(s.Things, name) }
