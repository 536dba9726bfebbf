package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// redriveFlags say which dead letters are moved back.
type redriveFlags struct {
	deadFlags
	max          int
	all, dry     bool
	asJSON       *bool
	limitIsGiven bool
}

func newDeadRedrive(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "redrive TOPIC", Short: "Move dead letters back to where they came from",
		Long: `Move dead letters back to where they came from: to the queue of TOPIC, or those of its groups.

The oldest come first. They keep their IDs, and begin anew, with no deliveries and no failures, and do not expire.
All handlers of an event run again, also those that had succeeded: --handler chooses dead letters by who gave them up.`,
		Example: "  ezq dead redrive orders --dry-run\n  ezq dead redrive orders --max 1\n  ezq dead redrive orders --all --handler charge",
	}
	f := &redriveFlags{asJSON: jsonFlag(cmd)}
	f.defineTopic(s, cmd)
	f.defineSelection(cmd)
	cmd.Flags().IntVarP(&f.max, "max", "n", 10, "at most so many")
	cmd.Flags().BoolVarP(&f.all, "all", "a", false, "all that there are now")
	cmd.Flags().BoolVar(&f.dry, "dry-run", false, "only show where they would go")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		f.limitIsGiven = cmd.Flags().Changed("max")
		if err := f.check(); err != nil {
			return err
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		return redriveDead(ctx, s, client, f)
	})
	return cmd
}

func (f *redriveFlags) check() error {
	switch {
	case f.all && f.limitIsGiven:
		return wrong("--all and --max exclude each other")
	case !f.saysFrom():
		return wrong("--in does not say which topics the dead letters came from: name them with --from")
	}
	return checkMax(f.max)
}

// remedy is what can be done about strays.
func (f *redriveFlags) remedy() string {
	return "--dry-run shows what they say, and --from takes those of another topic"
}

// redriveView is what dead redrive --json prints.
type redriveView struct {
	Origins []originView `json:"origins"`
	Moved   int          `json:"moved"`
	Busy    int          `json:"busy"`              // those that were leased, delayed or locked, as by another redrive
	Unknown int          `json:"unknown,omitempty"` // those that may have been moved too: the answer is lost
}

// originView is dead letters that came from one place.
type originView struct {
	Topic  string `json:"topic,omitempty"`
	Group  string `json:"group,omitempty"`
	Queue  string `json:"queue,omitempty"` // where they go
	Count  int    `json:"count"`
	Capped bool   `json:"count_capped,omitempty"`
	Stays  bool   `json:"stays,omitempty"` // they do not go there
}

// redriveDead moves the dead letters that f selects back to their queues.
func redriveDead(ctx context.Context, s *session, client *pgmq.Client, f *redriveFlags) error {
	chosen := f.selected(0)
	origins, err := client.Origins(ctx, f.topic, chosen)
	if err != nil {
		return f.explainError(err, f.remedy())
	}
	view := redriveView{Origins: []originView{}}
	for _, o := range origins {
		if view.Origins = append(view.Origins, originView{o.Topic, o.Group, o.Queue, o.Letters, o.LettersCapped, o.Stray || o.Missing}); !*f.asJSON {
			s.printf("%s\n", describeOrigin(f, o))
		}
	}
	if movable := movableOf(origins); !f.all && movable > f.max && !*f.asJSON {
		s.printf("of these, the oldest %d, as --max says; --all moves all\n", f.max)
	}
	switch {
	case f.dry && *f.asJSON:
		return s.printJSON(view)
	case f.dry && len(origins) == 0:
		return reportNothing(ctx, s, client, f)
	case f.dry:
		return nil
	}
	if !f.all {
		chosen.Limit = f.max
	}
	var done backend.Redriven
	err = withProgress(ctx, s, f.progress(client, "moving back"), func() (err error) {
		done, err = client.Redrive(ctx, f.topic, chosen)
		return err
	})
	if *f.asJSON {
		view.Moved, view.Busy, view.Unknown = done.Moved, done.Busy, unknownOf(err)
		return errors.Join(s.printJSON(view), explainStrays(err, f.remedy()))
	}
	s.printf("moved back: %d\n", done.Moved)
	printUnknown(s, err, "moved back")
	if err != nil {
		return explainStrays(err, f.remedy()) // a queue that is not there is one of those that dead letters go to
	}
	reportHeld(ctx, s, client, origins)
	return reportLeft(ctx, s, client, f, done)
}

// reportHeld says which topics are paused that dead letters go to, as far as the role may see it: their events wait there.
func reportHeld(ctx context.Context, s *session, client *pgmq.Client, origins []pgmq.Origin) {
	told := map[string]bool{}
	for _, o := range origins {
		if o.Stray || o.Missing || told[o.Topic] {
			continue
		}
		told[o.Topic] = true
		held, _ := client.Pauses(ctx, o.Topic)
		for _, paused := range held {
			s.printf("%s\n", formatPause(source(paused.Topic, paused.Group), paused))
		}
	}
}

// movableOf returns how many dead letters have somewhere to go.
func movableOf(origins []pgmq.Origin) (n int) {
	for _, o := range origins {
		if !o.Stray && !o.Missing {
			n += o.Letters
		}
	}
	return n
}

func reportLeft(ctx context.Context, s *session, client *pgmq.Client, f *redriveFlags, done backend.Redriven) error {
	left, err := f.remaining(ctx, client)
	if err != nil || left == "0" {
		return err
	}
	s.printf("left in %s: %s", terminal.Printable(f.topic), left)
	switch {
	case f.isSelective() && !f.all && done.Moved == f.max:
		s.printf("; if those that were moved succeed now, move the others that were chosen with --all\n")
	case f.isSelective() && done.Busy == 0:
		s.printf(", none of which was chosen\n")
	case f.isSelective():
		s.printf(", of which at most %d were chosen, and were leased, delayed or locked\n", done.Busy)
	case f.all || done.Moved < f.max: // it has moved all that it could
		s.printf(", which are leased, delayed or new: redrive again when they are due\n")
	default:
		s.printf("; if the others succeed now, move these with --all\n")
	}
	return nil
}

func reportNothing(ctx context.Context, s *session, client *pgmq.Client, f *redriveFlags) error {
	left, err := f.remaining(ctx, client)
	if err != nil {
		return f.explainError(err, f.remedy())
	}
	later := ""
	if left != "0" {
		later = ": " + left + " are leased or delayed"
	}
	s.printf("there is nothing in %s that could be moved now%s\n", terminal.Printable(f.topic), later)
	return nil
}

// describeOrigin says what redrive does with the dead letters of an origin.
func describeOrigin(f *redriveFlags, o pgmq.Origin) string {
	from := source(cmp.Or(o.Topic, "no topic, or one of many others"), o.Group)
	letters := count(o.Letters, o.LettersCapped)
	switch {
	case o.Missing && o.Queue == "":
		return fmt.Sprintf("  %s from %s stay until the topic has a queue: they do not say which", letters, from)
	case o.Missing:
		return fmt.Sprintf("  %s from %s stay until there is the queue %s, which does not exist", letters, from, terminal.Printable(o.Queue))
	case !o.Stray && o.Queue == "":
		return fmt.Sprintf("  %s from %s go to all queues of the topic: they do not say which", letters, from)
	case !o.Stray:
		return fmt.Sprintf("  %s from %s go to the queue %s", letters, from, terminal.Printable(o.Queue))
	case o.Topic == "":
		return fmt.Sprintf("  %s from %s stay", letters, from)
	case slices.Contains(f.from, o.Topic) || len(f.from) == 0 && o.Topic+backend.DeadLetterSuffix == f.topic:
		return fmt.Sprintf("  %s from %s stay: they name the queue %s, which is not its own or its groups'", letters, from, terminal.Printable(o.Queue))
	}
	return fmt.Sprintf("  %s from %s stay: if they may go there, add --from %s", letters, from, terminal.ShellWord(o.Topic))
}
