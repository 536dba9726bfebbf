package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// listSchedules shows the schedules that a program has run, and which of them are paused.
func listSchedules(ctx context.Context, client *pgmq.Client, out io.Writer) error {
	all, err := client.Schedules().List(ctx)
	if len(all) == 0 {
		if err == nil {
			_, _ = fmt.Fprintln(out, "There are no schedules in this database.")
		}
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "SCHEDULE\tLAST\tNEXT")
	for _, s := range all {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\n", printable(s.Name), timeOrDash(s.Last), timeOrDash(s.Next))
	}
	if failed := table.Flush(); failed != nil {
		return failed
	}
	for _, s := range all {
		if s.Paused != nil {
			_, _ = fmt.Fprintln(out, formatPause(printable(s.Name), *s.Paused))
		}
	}
	return err
}

// pauseSchedule has nothing published for the ticks of a schedule.
func pauseSchedule(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	paused, err := client.Schedules().Pause(ctx, c.topic, backend.Pause{By: c.by, Reason: c.reason, For: c.duration})
	if err == nil {
		printPaused(out, c, printable(c.topic), paused)
	}
	return err
}

func resumeSchedule(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	resumed, err := client.Schedules().Resume(ctx, c.topic)
	switch {
	case err != nil:
		return err
	case !resumed:
		return explainNotResumed(ctx, client, c, out)
	}
	_, err = fmt.Fprintf(out, "resumed: %s; the ticks of the pause are not made up for\n", printable(c.topic))
	return err
}

// explainNotResumed tells a schedule that was not paused from a name that is wrong.
func explainNotResumed(ctx context.Context, client *pgmq.Client, c command, out io.Writer) error {
	all, err := client.Schedules().List(ctx)
	if err == nil && !slices.ContainsFunc(all, func(s backend.ScheduleState) bool { return s.Name == c.topic }) {
		return fmt.Errorf("the schedule %q: it is not known: check the name: run %q", c.topic, "ezq-pgmq schedules")
	}
	_, _ = fmt.Fprintf(out, "%s was not paused\n", printable(c.topic))
	return err
}

func timeOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(timeFormat)
}
