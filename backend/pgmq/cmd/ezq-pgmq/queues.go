package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func (command) queues(ctx context.Context, queue *pgmq.Queue, out io.Writer) error {
	all, err := queue.AllMetrics(ctx)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "TOPIC\tGROUP\tQUEUE\tWAITING\tOLDEST\tLEASED OR DELAYED\tDEAD LETTERS")
	letters := map[string]pgmq.QueueMetrics{} // by their own queue
	for _, q := range all {
		letters[q.Queue] = q
	}
	for _, q := range all {
		dead := "-"
		if name, err := pgmq.QueueName(q.Topic + suffix); err == nil && q.Topic != "" { // groups share theirs
			if found, ok := letters[name]; ok {
				dead = count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped)
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
	return err
}

func orDash(name string) string {
	if name == "" {
		return "-"
	}
	return printable(name)
}

// count says that it was not counted to the end.
func count(n int, capped bool) string {
	if capped {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

// rounded is as exact as somebody wants to know who decides what to do.
func rounded(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}
