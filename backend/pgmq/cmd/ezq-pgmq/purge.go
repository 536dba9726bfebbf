package main

import (
	"context"
	"fmt"
	"io"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// purge deletes the dead letters that c selects.
func purge(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	if !c.yes {
		return cautionPurge(ctx, client, c)
	}
	if c.strays {
		deleted, err := client.PurgeQueue(ctx, c.topic)
		_, _ = fmt.Fprintf(out, "deleted: %d\n", deleted)
		return c.explainError(err)
	}
	done, err := client.PurgeDeadLetters(ctx, c.topic, c.selected(0))
	_, _ = fmt.Fprintf(out, "deleted: %d\n", done.Removed)
	if done.Busy > 0 {
		_, _ = fmt.Fprintf(out, "left, since they are locked: %d\n", done.Busy)
	}
	return c.explainError(err)
}

// cautionPurge says what would be deleted.
func cautionPurge(ctx context.Context, client *pgmq.Client, c command) error {
	left, err := c.remaining(ctx, client)
	if err != nil {
		return c.explainError(err)
	}
	doomed, after := "of which the dead letters of "+c.topicNames(), ""
	switch {
	case c.strays:
		doomed, after = "and all of them", c.caution()
	case c.isSelective():
		n, err := countSelected(ctx, client, c)
		if err != nil {
			return c.explainError(err)
		}
		doomed = fmt.Sprintf("of which %d are chosen, and", n)
	}
	return fmt.Errorf("%s has %s messages, %s would be deleted for good%s: add -yes", printable(c.topic), left, doomed, after)
}
