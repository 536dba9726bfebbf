package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// findMessages shows the messages of the topic that c selects. What it could not look at is its error.
func findMessages(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	chosen := c.single
	chosen.Limit = c.max
	found, err := client.Find(ctx, c.topic, chosen)
	for _, f := range found {
		_, _ = fmt.Fprintln(out, formatFound(f))
		if c.payload && f.Err == nil {
			_, _ = fmt.Fprintf(out, "    %s\n", payloadOf(f))
		}
	}
	_, _ = fmt.Fprintf(out, "found: %d\n", len(found))
	if len(found) == c.max {
		_, _ = fmt.Fprintln(out, "there may be more: -max shows more")
	}
	return explainNone(ctx, client, c, len(found), err)
}

// formatFound is one line, whatever the message says.
func formatFound(f backend.Found) string {
	what := fmt.Sprintf("%s, published %s, %s, after %s and %s", f.State,
		f.PublishedAt.UTC().Format(timeFormat), dueOf(f), deliveries(f.Deliveries), failures(f.Failures))
	switch f.State { // of the others, the time at which they are due says nothing
	case backend.StateDead:
		what = fmt.Sprintf("%s since %s", f.State, f.PublishedAt.UTC().Format(timeFormat))
	case backend.StateArchived, backend.StateQuarantined:
		what = fmt.Sprintf("%s, published %s", f.State, f.PublishedAt.UTC().Format(timeFormat))
	}
	if f.UniqueKey != "" {
		what += ", key " + printable(f.UniqueKey)
	}
	if f.Err != nil {
		what += "; " + unreadable(f.Err)
	}
	return fmt.Sprintf("%s  in %s: %s", printable(f.ID), placeOf(f), what)
}

// dueOf says when a message is due. For infinity, which another program has written, Find has 1970.
func dueOf(f backend.Found) string {
	at := f.VisibleAt.UTC().Format(timeFormat)
	switch {
	case f.VisibleAt.Unix() == 0 && f.State == backend.StateWaiting:
		return "always due"
	case f.VisibleAt.Unix() == 0:
		return "never due"
	case f.State == backend.StateDelivered:
		return "leased or to be tried again at " + at
	}
	return "due " + at
}

func placeOf(f backend.Found) string {
	switch f.Place {
	case backend.InArchive:
		return "the archive of " + printable(f.Queue)
	case backend.InGroup:
		return "the group's queue " + printable(f.Queue)
	default: // in that of the topic, or of the dead letters
		return printable(f.Queue)
	}
}

func payloadOf(f backend.Found) string {
	switch {
	case len(f.Payload) == 0 && f.Size == 0:
		return "none: the message is NULL, which another program has written"
	case f.Payload == nil:
		return fmt.Sprintf("its payload has about %d bytes, and is not shown", f.Size)
	}
	return printable(string(f.Payload))
}

// cancelMessages deletes the messages that c selects.
func cancelMessages(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	cancel := client.Cancel
	if c.running {
		cancel = client.CancelRunning
	}
	done, err := cancel(ctx, c.topic, c.single)
	_, _ = fmt.Fprintf(out, "deleted: %d\n", done.Removed+done.Stopped)
	if done.Stopped > 0 {
		_, _ = fmt.Fprintf(out, "of these were with a consumer, or failed before: %d\n", done.Stopped)
	}
	if done.Busy > 0 {
		busy := fmt.Errorf("not deleted: %d, which a consumer has, or which failed before and come again: -running deletes these too, and ends the contexts of their handlers", done.Busy)
		if c.running {
			busy = fmt.Errorf("not deleted: %d, which a transaction has locked: cancel again", done.Busy)
		}
		return errors.Join(err, busy)
	}
	return explainNone(ctx, client, c, done.Removed+done.Stopped, err)
}

// rescheduleMessages gives the messages that c selects another time.
func rescheduleMessages(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	at := c.at
	if at.IsZero() {
		at = time.Now().Add(*c.delay)
	}
	done, err := client.Reschedule(ctx, c.topic, c.single, at)
	_, _ = fmt.Fprintf(out, "moved to %s: %d\n", at.UTC().Format(timeFormat), done.Moved)
	if done.Busy > 0 {
		return errors.Join(err, fmt.Errorf("not moved: %d, which a consumer has, or which failed before and come again", done.Busy))
	}
	return explainNone(ctx, client, c, done.Moved, err)
}

// explainNone says that a topic which has nothing of what was asked for may be a wrong name.
func explainNone(ctx context.Context, client *pgmq.Client, c command, n int, err error) error {
	if n > 0 || err != nil {
		return err
	}
	found, hidden := hasQueue(ctx, client, c)
	switch {
	case found:
		return nil
	case hidden != nil:
		return fmt.Errorf("there is no queue of %s, unless it is that of a group: see whether the name is right; the role may not list queues: %w", printable(c.topic), hidden)
	}
	return fmt.Errorf("there is no queue of %s: see whether the name is right: run %q", printable(c.topic), "ezq-pgmq queues")
}
