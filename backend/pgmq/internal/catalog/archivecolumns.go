package catalog

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
)

//go:embed sql/archive_columns.sql
var archiveColumnsSQL string

// ArchiveColumns returns the columns that a queue and its archive both have, if
// messages can be moved between them.
func ArchiveColumns(ctx context.Context, db transact.Queryer, queue string) ([]string, error) {
	rows, err := db.Query(ctx, sqlfile.Text(archiveColumnsSQL), pgx.QueryExecModeCacheDescribe, queuename.Table(queue), queuename.Archive(queue))
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[struct {
		Columns []string
		Allowed bool
	}])
	switch {
	case err != nil:
		return nil, err
	case len(found.Columns) == 0:
		return nil, &fault.Error{
			Kind: fault.ErrQueueNotFound, Cause: fmt.Errorf("the queue %q has no archive", queue),
			Remedy: fmt.Sprintf("let its owner run SELECT pgmq.create('%s'), which creates what is missing", queue),
		}
	case !slices.Contains(found.Columns, "headers"):
		return nil, &fault.Error{
			Kind: fault.ErrTooOld, Cause: fmt.Errorf("%s has no headers", queuename.Archive(queue)),
			Remedy: fmt.Sprintf("let its owner run ALTER TABLE %s ADD COLUMN headers jsonb", queuename.Archive(queue)),
		}
	case !found.Allowed:
		return nil, &fault.Error{
			Kind: fault.ErrPermission, Cause: fmt.Errorf("the role may not archive to %s", queuename.Archive(queue)),
			Remedy: fmt.Sprintf("let its owner run GRANT SELECT, INSERT ON %s TO the role", queuename.Archive(queue)),
		}
	}
	return found.Columns, nil
}
