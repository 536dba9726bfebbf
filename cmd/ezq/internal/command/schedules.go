package command

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newSchedules(s *session) *cobra.Command {
	const short = "Show the schedules, with the last tick and the next, and which are paused"
	cmd := &cobra.Command{Use: "schedules", Short: short, Args: noneOrCommand()}
	listsSchedules(s, cmd)
	list := &cobra.Command{Use: "list", Short: short, Args: none()}
	listsSchedules(s, list)
	cmd.AddCommand(list, newSchedulesPause(s), newSchedulesResume(s))
	return cmd
}

// listsSchedules has cmd show the schedules that a program has run, and which of them are paused.
func listsSchedules(s *session, cmd *cobra.Command) {
	asJSON := jsonLinesFlag(cmd, "schedule")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		all, err := client.Schedules().List(ctx)
		if *asJSON {
			return printScheduleLines(s, all, err)
		}
		if len(all) == 0 {
			if err == nil {
				s.printf("There are no schedules in this database.\n")
			}
			return err
		}
		table := terminal.NewTable(s.style, "SCHEDULE", "LAST", "NEXT")
		now := time.Now()
		for _, known := range all {
			next := timeOrDash(known.Next)
			if known.Paused != nil { // its ticks pass
				next = "-"
			}
			table.Add(terminal.Printable(known.Name), timeOrDash(known.Last), next)
		}
		if failed := table.Write(s.Out); failed != nil {
			return failed
		}
		for _, known := range all {
			if known.OverdueAt(now) {
				s.printf("overdue: %s since %s: no program has ticked\n", terminal.Printable(known.Name), timeText(known.Next))
			}
			if known.Paused != nil {
				s.printf("%s\n", formatPause(terminal.Printable(known.Name), *known.Paused))
			}
		}
		return err
	})
}

// scheduleView is a line of schedules --json.
type scheduleView struct {
	Name   string     `json:"name"`
	Last   time.Time  `json:"last"`
	Next   *time.Time `json:"next,omitempty"` // missing if there is none, or none is known, or in a pause
	Paused *pauseView `json:"paused,omitempty"`

	Overdue bool `json:"overdue,omitempty"` // no program has ticked at Next
}

func printScheduleLines(s *session, all []backend.ScheduleState, err error) error {
	for _, known := range all {
		v := scheduleView{Name: known.Name, Last: known.Last.UTC(), Overdue: known.OverdueAt(time.Now())}
		if !known.Next.IsZero() && known.Paused == nil {
			next := known.Next.UTC()
			v.Next = &next
		}
		if known.Paused != nil {
			v.Paused = viewPause(*known.Paused)
		}
		if failed := s.printLine(v); failed != nil {
			return failed
		}
	}
	return err
}

func newSchedulesPause(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause NAME", Short: "Publish nothing for the ticks of a schedule, in all processes, until resume", Args: one("schedule"),
		Example: `  ezq schedules pause report --reason "the audit" --for 1h`,
	}
	flags := newPauseFlags(cmd)
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		paused, err := client.Schedules().Pause(ctx, args[0], flags.pause())
		if err != nil {
			return err
		}
		return flags.print(s, "schedule", terminal.Printable(args[0]), paused)
	})
	return cmd
}

func newSchedulesResume(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume NAME", Short: "Let a schedule go on; the ticks of the pause are not made up for", Args: one("schedule"),
	}
	s.runs(cmd, func(ctx context.Context, args []string) error {
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		resumed, err := client.Schedules().Resume(ctx, args[0])
		switch {
		case err != nil:
			return err
		case !resumed:
			return explainNotResumed(ctx, s, client, args[0])
		}
		s.printf("resumed: %s; the ticks of the pause are not made up for\n", terminal.Printable(args[0]))
		return nil
	})
	return cmd
}

// explainNotResumed tells a schedule that was not paused from a name that is wrong.
func explainNotResumed(ctx context.Context, s *session, client *pgmq.Client, name string) error {
	all, err := client.Schedules().List(ctx)
	if err == nil && !slices.ContainsFunc(all, func(known backend.ScheduleState) bool { return known.Name == name }) {
		return fmt.Errorf("the schedule %q: it is not known: check the name: run %q", name, "ezq schedules")
	}
	s.printf("%s was not paused\n", terminal.Printable(name))
	return err
}
