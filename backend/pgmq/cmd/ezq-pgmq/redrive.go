package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// redrive moves the dead letters that c selects back to their queues.
func redrive(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	chosen := c.selected(0)
	origins, err := client.Origins(ctx, c.topic, chosen)
	if err != nil {
		return c.explainError(err)
	}
	for _, origin := range origins {
		_, _ = fmt.Fprintln(out, describeOrigin(c, origin))
	}
	switch {
	case c.show && len(origins) == 0:
		return reportNothing(ctx, client, c, out)
	case c.show:
		return nil
	}
	if !c.all {
		chosen.Limit = c.max
	}
	done, err := client.Redrive(ctx, c.topic, chosen)
	_, _ = fmt.Fprintf(out, "moved back: %d\n", done.Moved)
	if err != nil {
		return c.explainStrays(err) // a queue that is not there is one of those that dead letters go to
	}
	left, err := c.remaining(ctx, client)
	switch {
	case err != nil || left == "0":
	case c.isSelective() && !c.all && done.Moved == c.max:
		_, _ = fmt.Fprintf(out, "left in %s: %s; if those that were moved succeed now, move the others that were chosen with -all\n", printable(c.topic), left)
	case c.isSelective() && done.Busy == 0:
		_, _ = fmt.Fprintf(out, "left in %s: %s, none of which was chosen\n", printable(c.topic), left)
	case c.isSelective():
		_, _ = fmt.Fprintf(out, "left in %s: %s, of which %d were chosen, and are leased, delayed or locked\n", printable(c.topic), left, done.Busy)
	case c.all || done.Moved < c.max: // it has moved all that it could
		_, _ = fmt.Fprintf(out, "left in %s: %s, which are leased, delayed or new: redrive again when they are due\n", printable(c.topic), left)
	default:
		_, _ = fmt.Fprintf(out, "left in %s: %s; if the others succeed now, move these with -all\n", printable(c.topic), left)
	}
	return err
}

func reportNothing(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	left, err := c.remaining(ctx, client)
	if err != nil {
		return c.explainError(err)
	}
	later := ""
	if left != "0" {
		later = ": " + left + " are leased or delayed"
	}
	_, err = fmt.Fprintf(out, "there is nothing in %s that could be moved now%s\n", printable(c.topic), later)
	return err
}

// describeOrigin says what redrive does with the dead letters of an origin.
func describeOrigin(c command, o pgmq.Origin) string {
	from := source(cmp.Or(o.Topic, "no topic, or one of many others"), o.Group)
	letters := count(o.Letters, o.LettersCapped)
	switch {
	case o.Missing && o.Queue == "":
		return fmt.Sprintf("  %s from %s stay until the topic has a queue: they do not say which", letters, from)
	case o.Missing:
		return fmt.Sprintf("  %s from %s stay until there is the queue %s, which does not exist", letters, from, printable(o.Queue))
	case !o.Stray && o.Queue == "":
		return fmt.Sprintf("  %s from %s go to all queues of the topic: they do not say which", letters, from)
	case !o.Stray:
		return fmt.Sprintf("  %s from %s go to the queue %s", letters, from, printable(o.Queue))
	case o.Topic == "":
		return fmt.Sprintf("  %s from %s stay", letters, from)
	case slices.Contains(c.from, o.Topic) || len(c.from) == 0 && o.Topic+backend.DeadLetterSuffix == c.topic:
		return fmt.Sprintf("  %s from %s stay: they name the queue %s, which is not its own or its groups'", letters, from, printable(o.Queue))
	}
	return fmt.Sprintf("  %s from %s stay: if they may go there, add -from %s", letters, from, shellWord(o.Topic))
}
