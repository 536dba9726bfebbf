package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// listQueues shows how long each queue is, and what is paused.
func listQueues(ctx context.Context, client *pgmq.Client, out io.Writer) error {
	all, err := client.AllMetrics(ctx)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "TOPIC\tGROUP\tQUEUE\tWAITING\tOLDEST\tLEASED OR DELAYED\tDEAD LETTERS")
	letters := map[string]pgmq.QueueMetrics{} // by their own queue
	for _, q := range all {
		letters[q.Queue] = q
	}
	for _, q := range all {
		dead := "-"
		if name, invalid := pgmq.QueueName(q.Topic + backend.DeadLetterSuffix); invalid == nil && q.Topic != "" { // groups share theirs
			if found, ok := letters[name]; ok {
				dead = count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped)
			} else if isAbout(err, name) {
				dead = "?"
			}
		}
		oldest := "-"
		if q.Visible > 0 {
			oldest = rounded(q.OldestVisible).String()
		}
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			orDash(q.Topic), orDash(q.Group), printable(q.Queue), count(q.Visible, q.VisibleCapped), oldest, count(q.Invisible, q.InvisibleCapped), dead)
	}
	if failed := table.Flush(); failed != nil {
		return failed
	}
	if len(all) == 0 && err == nil {
		_, _ = fmt.Fprintln(out, "There are no queues in this database.")
	}
	return errors.Join(err, printPauses(ctx, client, out))
}

// isAbout reports whether one of the errors that err joins is about a queue.
func isAbout(err error, queue string) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return ok && slices.ContainsFunc(joined.Unwrap(), func(err error) bool {
		about, ok := errors.AsType[*pgmq.Error](err)
		return ok && about.Topic == queue
	})
}
