package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// pause pauses the consumers of the topic, or of the group.
func pause(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	paused, err := client.Pause(ctx, c.topic, backend.Pause{By: c.by, Reason: c.reason, For: c.duration})
	if err != nil {
		return err
	}
	printPaused(out, c, source(paused.Topic, paused.Group), paused)
	if found, err := hasQueue(ctx, client, c); !found && err == nil {
		_, _ = fmt.Fprintf(out, "there is no queue of %s yet: see whether the name is right; a consumer that starts later is paused\n", source(c.topic, c.group))
	}
	for _, pattern := range patternsOf(ctx, client, c) {
		_, _ = fmt.Fprintf(out, "not paused: groups that take %s by the pattern %s: that is paused by itself\n", printable(c.topic), printable(pattern))
	}
	return nil
}

// printPaused shows the pause that holds now. It can be another than that which was asked for.
func printPaused(out io.Writer, c command, what string, paused backend.Paused) {
	_, _ = fmt.Fprintln(out, formatPause(what, paused))
	if paused.By != c.by || paused.Reason != c.reason {
		_, _ = fmt.Fprintf(out, "this pause holds, since it ends later; to replace it, resume the %s first\n", c.argument())
	}
}

// patternsOf returns the patterns by which groups take the topic, as far as the role may see them.
func patternsOf(ctx context.Context, client *pgmq.Client, c command) (patterns []string) {
	if c.group != "" || backend.IsPattern(c.topic) {
		return nil
	}
	all, _ := client.Queues(ctx)
	for _, q := range all {
		if q.Group != "" && backend.IsPattern(q.Topic) && backend.MatchesPattern(q.Topic, c.topic) {
			patterns = append(patterns, q.Topic)
		}
	}
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

// hasQueue reports whether the topic, or the group, has a queue. It returns an error if the role may not see whether
// a topic without one has groups.
func hasQueue(ctx context.Context, client *pgmq.Client, c command) (bool, error) {
	_, err := client.Metrics(ctx, c.topic)
	if !errors.Is(err, pgmq.ErrQueueNotFound) {
		return true, nil
	}
	all, err := client.Queues(ctx)
	return c.group == "" && slices.ContainsFunc(all, func(q pgmq.QueueInfo) bool { return q.Topic == c.topic }), err
}

// resume ends the pause of the topic, or of the group, and says what is still paused.
func resume(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	resumed, err := client.Resume(ctx, c.topic)
	if err != nil {
		return err
	}
	what := source(c.topic, c.group)
	if resumed {
		_, _ = fmt.Fprintf(out, "resumed: %s\n", what)
	}
	left, err := client.Pauses(ctx, c.topic)
	for _, paused := range left {
		_, _ = fmt.Fprintln(out, formatPause(source(paused.Topic, paused.Group), paused))
	}
	switch {
	case err != nil || resumed:
		return err
	case len(left) == 0:
		_, err = fmt.Fprintf(out, "%s was not paused\n", what)
		return err
	case c.group != "":
		return errors.New("the group was not paused by itself: leave out -group to resume the topic")
	}
	return errors.New("the topic was not paused as a whole: name the group with -group")
}

// printPauses shows all pauses that hold.
func printPauses(ctx context.Context, client *pgmq.Client, out io.Writer) error {
	all, err := client.AllPauses(ctx)
	for _, paused := range all {
		_, _ = fmt.Fprintln(out, formatPause(source(paused.Topic, paused.Group), paused))
	}
	return err
}

// formatPause is one line about what is paused, whatever others have written there.
func formatPause(what string, p backend.Paused) string {
	until := "until it is resumed"
	if !p.Until.IsZero() {
		until = "until " + p.Until.UTC().Format(timeFormat)
	}
	return fmt.Sprintf("paused: %s since %s, %s, by %s: %s",
		what, p.Since.UTC().Format(timeFormat), until, printable(p.By), printable(p.Reason))
}
