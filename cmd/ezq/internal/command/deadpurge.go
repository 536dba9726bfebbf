package command

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// purgeFlags say which dead letters are deleted.
type purgeFlags struct {
	deadFlags
	yes, strays bool
	asJSON      *bool
}

// purgeView is what dead purge --json prints.
type purgeView struct {
	Deleted int `json:"deleted"`
	Busy    int `json:"busy"`              // those that are locked, and stay
	Unknown int `json:"unknown,omitempty"` // those that may have been deleted too: the answer is lost
}

func newDeadPurge(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge TOPIC", Short: "Delete dead letters for good, and nothing else that is there",
		Long: `Delete dead letters for good, and nothing else that is there.

Without --yes they are only counted.`,
		Example: "  ezq dead purge orders --older 720h --yes",
	}
	f := &purgeFlags{asJSON: jsonFlag(cmd)}
	f.defineTopic(s, cmd)
	f.defineSelection(cmd)
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "really delete them")
	cmd.Flags().BoolVar(&f.strays, "strays", false, "delete all that is there, whatever it is")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		return purgeDead(ctx, s, client, f)
	})
	return cmd
}

func (f *purgeFlags) check() error {
	switch {
	case f.strays && f.isSelective():
		return wrong("--strays deletes all that is there: leave out what selects dead letters")
	case f.strays && len(f.from) > 0:
		return wrong("--from and --strays exclude each other: --strays deletes all that is there")
	case !f.strays && !f.saysFrom():
		return wrong("--in does not say which topics the dead letters came from: name them with --from, or delete all that is in %s with --strays%s", terminal.Printable(f.topic), f.caution())
	}
	return nil
}

// caution says what --strays can cost where the name of the queue does not say that it is one of dead
// letters.
func (f *purgeFlags) caution() string {
	if strings.HasSuffix(f.topic, backend.DeadLetterSuffix) {
		return ""
	}
	return ", also events that wait to be handled, if it is a queue in use"
}

// remedy is what can be done about strays.
func (f *purgeFlags) remedy() string {
	return fmt.Sprintf("look at them with ezq dead list --in %s; delete those of another topic with --from, and all that is there with --strays%s",
		terminal.ShellWord(f.topic), f.caution())
}

// purgeDead deletes the dead letters that f selects.
func purgeDead(ctx context.Context, s *session, client *pgmq.Client, f *purgeFlags) error {
	if !f.yes {
		return f.ask(ctx, client)
	}
	var done backend.Purged
	err := withProgress(ctx, s, f.progress(client, "deleting"), func() (err error) {
		if f.strays {
			done.Removed, err = client.PurgeQueue(ctx, f.topic)
			return err
		}
		done, err = client.PurgeDeadLetters(ctx, f.topic, f.selected(0))
		return err
	})
	unknown := err
	err = f.explainError(err, f.remedy())
	if *f.asJSON {
		return errors.Join(s.printJSON(purgeView{Deleted: done.Removed, Busy: done.Busy, Unknown: unknownOf(unknown)}), err)
	}
	s.printf("deleted: %d\n", done.Removed)
	printUnknown(s, unknown, "deleted")
	if done.Busy > 0 {
		s.printf("left, since they are locked: %d\n", done.Busy)
	}
	return err
}

// ask says what would be deleted.
func (f *purgeFlags) ask(ctx context.Context, client *pgmq.Client) error {
	left, err := f.remaining(ctx, client)
	if err != nil {
		return f.explainError(err, f.remedy())
	}
	doomed, after := "of which the dead letters of "+f.topicNames(), ""
	switch {
	case f.strays:
		doomed, after = "and all of them", f.caution()
	case f.isSelective():
		n, err := f.countSelected(ctx, client)
		if err != nil {
			return f.explainError(err, f.remedy())
		}
		doomed = fmt.Sprintf("of which %d are chosen, and", n)
	}
	return fmt.Errorf("%s has %s messages, %s would be deleted for good%s: add --yes", terminal.Printable(f.topic), left, doomed, after)
}

// countSelected returns how many dead letters f selects.
func (f *purgeFlags) countSelected(ctx context.Context, client *pgmq.Client) (n int, err error) {
	chosen := f.selected(0)
	chosen.Topics = f.topics()
	counts, err := client.CountDeadLetters(ctx, f.topic, chosen)
	for _, count := range counts {
		n += count.Letters
	}
	return n, err
}
