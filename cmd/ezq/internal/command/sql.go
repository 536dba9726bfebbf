package command

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
	"github.com/ezq-go/ezq/cmd/ezq/internal/provision"
	"github.com/ezq-go/ezq/cmd/ezq/internal/setup"
)

// sqlRequest is what SQL to print.
type sqlRequest struct {
	what, format string
	extension    bool
	from         sourceFlags
	service      serviceFlags
}

func newSQL(s *session) *cobra.Command {
	var r sqlRequest
	cmd := &cobra.Command{
		Use: "sql [topic…]", Short: "Print what install and init would run, for a migration tool",
		Long: `sql prints the SQL of install, for a database that has none of it, as one migration: of PGMQ, of what ezq adds, or of
both. With topics, or --services, it prints that of init for a database without queues. It looks into no database.

golang-migrate and Flyway take it as it is, goose with --format goose. All of them have to run it in one transaction, or
as one statement, as they do by default. To update PGMQ later, use ezq upgrade.`,
		Example: "ezq sql > migrations/1_pgmq.up.sql\nezq sql --format goose --extension > migrations/1_pgmq.sql\nezq sql orders --group mailer > migrations/2_orders.up.sql",
	}
	flags := cmd.Flags()
	flags.StringVar(&r.what, "what", "", "pgmq, ezq, all, or queues (default all, or queues if topics are named)")
	flags.StringVar(&r.format, "format", "plain", "plain or goose")
	flags.BoolVar(&r.extension, "extension", false, "create the extension, instead of PGMQ's SQL")
	flags.StringVar(&r.service.file, "services", "", "take the topics from this file, as ezq.json")
	flags.StringArrayVar(&r.service.groups, "group", nil, "a group of consumers of each topic; can be given several times")
	flags.StringArrayVar(&r.service.indexes, "index", nil, "an index of each queue: key, id, event, header:NAME or field:PATH")
	flags.StringVar(&r.service.kind, "kind", "", "of the queues: plain or unlogged (default plain)")
	flags.BoolVar(&r.service.tune, "tune", false, "set the storage parameters of busy queues")
	r.from.define(flags)
	s.runsWithin(cmd, setupTimeout, func(ctx context.Context, topics []string) error { return r.run(ctx, s, topics) })
	return cmd
}

func (r *sqlRequest) run(ctx context.Context, s *session, topics []string) error {
	queues := len(topics) > 0 || r.service.file != ""
	if r.what == "" {
		r.what = "all"
		if queues {
			r.what = "queues"
		}
	}
	switch {
	case !slices.Contains([]string{"pgmq", "ezq", "all", "queues"}, r.what):
		return wrong("sql: --what %q is none of pgmq, ezq, all and queues", r.what)
	case queues != (r.what == "queues"):
		return wrong("sql: topics are for --what queues, and --what queues is about topics")
	case r.format != "plain" && r.format != "goose":
		return wrong("sql: --format %q is neither plain nor goose", r.format)
	}
	sql, err := r.sql(ctx, s, topics)
	if err != nil {
		return err
	}
	sql = "-- Written by ezq sql --what " + r.what + ".\n" + setup.Migration(sql)
	if r.format == "goose" {
		sql = "-- +goose Up\n-- +goose StatementBegin\n" + sql + "-- +goose StatementEnd\n"
	}
	s.printf("%s", sql)
	return nil
}

func (r *sqlRequest) sql(ctx context.Context, s *session, topics []string) (string, error) {
	if r.what == "queues" {
		service, err := r.service.service(topics)
		if err != nil {
			return "", err
		}
		return provision.SQL(service)
	}
	var sql strings.Builder
	if r.what != "ezq" {
		if r.extension {
			sql.WriteString("create extension if not exists pgmq;\n")
		} else {
			bundle, err := r.from.source(s).Bundle(ctx, false)
			if err != nil {
				return "", err
			}
			sql.WriteString("-- PGMQ " + versionOf(bundle) + ", https://github.com/pgmq/pgmq\n" + strings.TrimRight(bundle.Install, "\n") + "\n")
		}
	}
	if r.what != "pgmq" {
		sql.WriteString(setup.OwnSQL())
	}
	return sql.String(), nil
}

func versionOf(b official.Bundle) string {
	if b.Version == "" {
		return "of your choice"
	}
	return b.Version
}
