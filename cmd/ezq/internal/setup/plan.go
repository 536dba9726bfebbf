package setup

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
	"github.com/ezq-go/ezq/internal/schema"
)

// Step is something that is missing, and the SQL that makes it.
type Step struct {
	Title string
	SQL   string
}

// Plan is what is to be done, and what is there.
type Plan struct {
	Steps []Step
	Notes []string // for people
}

// oldestServer is the oldest PostgreSQL that PGMQ takes.
const oldestServer = 140000

// planner plans what is to be done where this is the state.
type planner struct {
	State
	way way
}

// check returns why nothing can be installed there at all.
func (s planner) check() error {
	switch {
	case s.Server < oldestServer:
		return fmt.Errorf("the server is PostgreSQL %d.%d, and PGMQ needs 14 or later: update PostgreSQL", s.Server/10000, s.Server%10000)
	case s.Standby:
		return errors.New("the server is a standby, which takes no writes: connect to the primary, or add target_session_attrs=read-write to the database URL")
	case s.ReadOnly:
		return errors.New("default_transaction_read_only is on, for the server, the database or the role, as providers set it when the disk is full:" +
			" free space, or set it to off")
	case s.Owner != "" && !s.Trusted:
		return fmt.Errorf("the schema pgmq belongs to the role %q, which %q has no reason to trust, and which could put code there that runs in its name:"+
			" see what is in it, and drop it, or let an administrator run ALTER SCHEMA pgmq OWNER TO the owner of the queues", s.Owner, s.Role)
	case len(s.Foreigners) > 0:
		return fmt.Errorf("in the schema pgmq there is what %q has no reason to trust, and would be used as if it were PGMQ's: the %s:"+
			" see who has made it, and drop it", s.Role, strings.Join(s.Foreigners, "; the "))
	}
	return nil
}

// way is how PGMQ comes into a database.
type way struct {
	sql    bool // as plain SQL also where the server has the extension
	bundle func() (official.Bundle, error)
}

// installPGMQ returns the step that installs PGMQ, or none if it is there.
func (s planner) installPGMQ() ([]Step, error) {
	switch {
	case s.Installed && s.Version() == "0":
		return nil, fmt.Errorf("PGMQ is there, and older than %s, which ezq needs: update it by hand, with the scripts of https://github.com/pgmq/pgmq", official.Oldest)
	case s.Installed:
		return nil, nil
	case s.Available != "" && !s.way.sql:
		return s.createExtension()
	case s.Owner == "" && !s.MayCreate, s.Owner != "" && !s.Owns:
		return nil, fmt.Errorf("the role %q may not create the schema pgmq in the database %q: connect as the owner of the database,"+
			" or let it run GRANT CREATE ON DATABASE %s TO %s", s.Role, s.Database, schema.Quoted(s.Database), schema.Quoted(s.Role))
	case len(s.Things) > 0:
		return nil, fmt.Errorf("the schema pgmq has %s, and no function pgmq.create: PGMQ was installed or removed in part."+
			" See what is to be kept, drop the rest, and try again", strings.Join(s.Things[:min(5, len(s.Things))], ", "))
	}
	bundle, err := s.way.bundle()
	if err != nil {
		return nil, err
	}
	version := "of your choice"
	if bundle.Version != "" {
		version = bundle.Version
	}
	return []Step{{"install PGMQ " + version + " as plain SQL, in the schema pgmq", ownPath + bundle.Install}}, nil
}

func (s planner) createExtension() ([]Step, error) {
	switch {
	case official.Older(s.Available, official.Oldest):
		return nil, fmt.Errorf("the server has the extension pgmq %s, and ezq needs %s or later: update the server's package of it,"+
			" or install the SQL of PGMQ with --plain", s.Available, official.Oldest)
	case s.Superuser:
		return nil, fmt.Errorf("the role %q may not create the extension pgmq: let a superuser run CREATE EXTENSION pgmq,"+
			" or install the SQL of PGMQ with --plain", s.Role)
	case !s.MayCreate:
		return nil, fmt.Errorf("the role %q may not create the extension pgmq in the database %q: connect as the owner of the database,"+
			" or let it run GRANT CREATE ON DATABASE %s TO %s", s.Role, s.Database, schema.Quoted(s.Database), schema.Quoted(s.Role))
	}
	return []Step{{"create the extension pgmq " + s.Available, "create extension pgmq version '" + s.Available + "';\n"}}, nil
}

// ownPath has names without a schema mean those of PostgreSQL, until the transaction ends: a role that may create
// functions in a schema of the search_path would have its own run in their place.
const ownPath = "select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);\n"

// installOwn returns the steps that make what ezq adds, as far as it is missing.
func (s planner) installOwn() (steps []Step, err error) {
	for _, table := range []struct {
		name    string
		there   []string
		columns []string
		step    Step
	}{
		{schema.IDsTable, s.IDs, []string{"key", "until"}, idsStep()},
		{schema.PausesTable, s.Pauses, []string{"consumer_group", "paused_by", "queue", "reason", "since", "topic", "until"}, pausesStep()},
	} {
		switch {
		case len(table.there) == 0:
			steps = append(steps, table.step)
		case !slices.Equal(table.there, table.columns):
			return nil, fmt.Errorf("the table %s has the columns %s, and ezq needs %s: see which role has made it, drop it, and try again",
				table.name, strings.Join(table.there, ", "), strings.Join(table.columns, ", "))
		}
	}
	if !s.has("q_" + schema.Schedules) {
		steps = append(steps, schedulesStep())
	}
	if len(steps) > 0 && s.Owner != "" && !s.MayExtend {
		return nil, fmt.Errorf("the role %q may not create tables in the schema pgmq: connect as %q, which owns it,"+
			" or let that run GRANT USAGE, CREATE ON SCHEMA pgmq TO %s; GRANT SELECT, INSERT ON pgmq.meta TO %[3]s", s.Role, s.Owner, schema.Quoted(s.Role))
	}
	return steps, nil
}

func idsStep() Step {
	return Step{"create the table " + schema.IDsTable + ", which remembers the IDs of events", schema.KeysTableSQL(schema.IDsTable) + ";\n"}
}

func pausesStep() Step {
	return Step{"create the table " + schema.PausesTable + ", which has the pauses of topics", schema.PausesTableSQL() + ";\n"}
}

func schedulesStep() Step {
	return Step{"create the queue " + schema.Schedules + ", which has the state of schedules", ownPath + "select pgmq.create('" + schema.Schedules + "'::text);\n"}
}

// planInstall is all that is missing.
func planInstall(state State, w way) (p Plan, err error) {
	s := planner{state, w}
	if err := s.check(); err != nil {
		return p, err
	}
	if p.Steps, err = s.installPGMQ(); err != nil {
		return p, err
	}
	own, err := s.installOwn()
	p.Steps = append(p.Steps, own...)
	if s.Installed {
		p.Notes = append(p.Notes, "PGMQ "+s.atLeast()+" is there, and stays as it is; ezq upgrade updates it")
	}
	return p, err
}

// planUpgrade is planInstall for a database that has PGMQ, and updates that.
func planUpgrade(state State, w way) (p Plan, err error) {
	s := planner{state, w}
	if err := s.check(); err != nil {
		return p, err
	}
	if !s.Installed {
		return p, errors.New("the database has no PGMQ that could be updated: run ezq install")
	}
	if s.Extension != "" {
		p, err = s.updateExtension()
	} else {
		p, err = s.updateSQL()
	}
	if err != nil {
		return p, err
	}
	own, err := s.installOwn()
	p.Steps = append(p.Steps, own...)
	return p, err
}

func (s planner) updateExtension() (p Plan, err error) {
	switch {
	case s.Available == "" || !official.Older(s.Extension, s.Available):
		p.Notes = append(p.Notes, fmt.Sprintf("the extension pgmq is %s, and the server has no later one: it stays", s.Extension))
	case !s.Owns && s.Superuser:
		err = fmt.Errorf("the role %q may not update the extension pgmq: let a superuser run ALTER EXTENSION pgmq UPDATE", s.Role)
	default:
		p.Steps = append(p.Steps, Step{"update the extension pgmq from " + s.Extension + " to " + s.Available, "alter extension pgmq update to '" + s.Available + "';\n"})
	}
	return p, err
}

// updateSQL runs the scripts of PGMQ from the version that is there to that of the bundle.
func (s planner) updateSQL() (p Plan, err error) {
	from := s.Version()
	if from == "0" {
		return p, fmt.Errorf("PGMQ is older than %s: update it by hand, with the scripts of https://github.com/pgmq/pgmq", official.Oldest)
	}
	if pinned := official.Pinned().Version; !official.Older(from, pinned) {
		p.Notes = append(p.Notes, "PGMQ is "+s.atLeast()+", installed as plain SQL, and this ezq has no later one: it stays")
		return p, nil
	}
	bundle, err := s.way.bundle()
	if err != nil {
		return p, err
	}
	if len(bundle.Updates) == 0 {
		p.Notes = append(p.Notes, "PGMQ is "+from+", installed as plain SQL, and stays: the file has only the SQL that installs it,"+
			" and not the scripts that update it, which the npm package has")
		return p, nil
	}
	if !s.Owns {
		return p, fmt.Errorf("the role %q does not own PGMQ: connect as %q", s.Role, s.Owner)
	}
	path, err := bundle.Path(from)
	for _, update := range path {
		p.Steps = append(p.Steps, Step{
			"update PGMQ from " + update.From + " to " + update.To + ", with its own script", ownPath + outsideExtension(update.SQL),
		})
	}
	if len(path) > 0 {
		p.Notes = append(p.Notes, "PGMQ's scripts lock each queue while they change it: publishers and consumers wait until all of it is done")
	}
	return p, err
}

// outsideExtension leaves out what fails outside of an extension, and has no effect on anything else.
func outsideExtension(sql string) string {
	return regexp.MustCompile(`(?mi)^\s*SELECT\s+(pg_catalog\.)?pg_extension_config_dump\([^;]*\);\s*$`).ReplaceAllString(sql, "")
}
