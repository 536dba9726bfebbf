package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// singleFlags select single events.
func singleFlags(cmd *cobra.Command) *backend.Selection {
	var chosen backend.Selection
	cmd.Flags().StringVar(&chosen.ID, "id", "", "the ID, as a consumer gets it")
	cmd.Flags().StringVarP(&chosen.UniqueKey, "unique", "u", "", "the key of ezq.Unique, Replace or Debounce")
	return &chosen
}

func newFind(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "find TOPIC", Short: "Find single events, wherever they are", Args: one("topic"),
		Long: `Find single events, wherever they are: in a queue, among the dead letters, or in the archive.

All that is given must match.`,
		Example:           "  ezq find orders --id order-7 --payload\n  ezq find orders --field order.id=7",
		ValidArgsFunction: completesTopic(s),
	}
	chosen := singleFlags(cmd)
	cmd.Flags().StringVarP(&chosen.Event, "event", "e", "", "the name of the event")
	headerFlag(cmd, &chosen.Header, &chosen.Value, "a header of the event")
	key := cmd.Flags().StringP("key", "k", "", "the key by which events stay in order, as that of ezq.Key")
	fieldFlag(cmd, &chosen.Field, &chosen.Equals)
	cmd.Flags().IntVarP(&chosen.Limit, "max", "n", 20, "show at most so many events")
	payload := cmd.Flags().BoolP("payload", "p", false, "with their payloads")
	asJSON := jsonLinesFlag(cmd, "event")
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if err := choose(chosen, *key); err != nil {
			return err
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		found, err := client.Find(ctx, args[0], *chosen)
		for _, f := range found {
			if failed := printFound(s, f, "", *asJSON, *payload); failed != nil {
				return failed
			}
		}
		if *asJSON {
			return explainNone(ctx, client, args[0], len(found), err)
		}
		s.printf("found: %d\n", len(found))
		if len(found) == 0 && err == nil {
			s.printf("%s\n", missed(*key, chosen.UniqueKey))
		}
		if len(found) == chosen.Limit {
			s.printf("there may be more: --max shows more\n")
		}
		return explainNone(ctx, client, args[0], len(found), err)
	})
	return cmd
}

// keyHeader is the header that has the key of ezq.Key.
const keyHeader = "x-pgmq-group"

// choose puts the key of ezq.Key into what find looks for, and returns why that cannot be looked for.
func choose(chosen *backend.Selection, key string) error {
	switch {
	case key != "" && chosen.Header != "":
		return wrong("find: --key and --header exclude each other: the key is a header")
	case key != "":
		chosen.Header, chosen.Value = keyHeader, key
	case chosen.ID+chosen.UniqueKey+chosen.Event+chosen.Header+chosen.Field == "":
		return wrong("find: say which events, with --id, --unique, --key, --event, --header or --field")
	}
	return checkMax(chosen.Limit)
}

// missed says what may be the reason that nothing was found.
func missed(key, unique string) string {
	gone := "an event that was handled is gone, unless it is archived"
	switch {
	case key != "" && unique == "":
		return gone + "; the key of ezq.Unique, Replace or Debounce is --unique"
	case unique != "" && key == "":
		return gone + "; the key of ezq.Key is --key"
	}
	return gone
}

// explainEmpty is explainNone for a command that reads the queue of the topic alone: that of a topic which has only
// groups does not exist, and looks empty.
func explainEmpty(ctx context.Context, client *pgmq.Client, topic string, n int, err error) error {
	if n > 0 || err != nil {
		return err
	}
	if groups := groupsAlone(ctx, client, topic); len(groups) > 0 {
		return fmt.Errorf("%s has no queue of its own; name one of its groups with --group: %s", terminal.Printable(topic), strings.Join(groups, ", "))
	}
	return explainNone(ctx, client, topic, n, nil)
}

// groupsAlone returns the groups of a topic that has no queue of its own, as far as the role may see them.
func groupsAlone(ctx context.Context, client *pgmq.Client, topic string) (groups []string) {
	all, _ := client.Queues(ctx)
	for _, q := range all {
		switch {
		case q.Topic == topic && q.Group == "":
			return nil
		case q.Topic == topic:
			groups = append(groups, terminal.Printable(q.Group))
		}
	}
	slices.Sort(groups)
	return groups
}

// explainNone says that a topic which has nothing of what was asked for may be a wrong name.
func explainNone(ctx context.Context, client *pgmq.Client, topic string, n int, err error) error {
	if n > 0 || err != nil {
		return err
	}
	found, hidden := hasQueue(ctx, client, topic, "")
	switch {
	case found:
		return nil
	case hidden != nil:
		return fmt.Errorf("there is no queue of %s, unless it is that of a group: see whether the name is right; the role may not list queues: %w", terminal.Printable(topic), hidden)
	}
	return fmt.Errorf("there is no queue of %s: see whether the name is right: run %q", terminal.Printable(topic), "ezq queues")
}

func newCancel(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "cancel TOPIC", Short: "Delete single events that wait, in the queue and those of groups", Args: one("topic"),
		Example: "  ezq cancel orders --id order-7", ValidArgsFunction: completesTopic(s),
	}
	chosen := singleFlags(cmd)
	running := cmd.Flags().Bool("running", false, "also those that are being handled: the contexts of their handlers end; and those that failed before, and come again")
	asJSON := jsonFlag(cmd)
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if chosen.ID+chosen.UniqueKey == "" {
			return wrong("cancel: say which event, with --id or --unique: find shows its ID")
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		cancel := client.Cancel
		if *running {
			cancel = client.CancelRunning
		}
		done, err := cancel(ctx, args[0], *chosen)
		switch {
		case *asJSON:
			err = errors.Join(s.printJSON(cancelView{Deleted: done.Removed + done.Stopped, Running: done.Stopped, Busy: done.Busy, Unknown: unknownOf(err)}), err)
		default:
			s.printf("deleted: %d\n", done.Removed+done.Stopped)
			printUnknown(s, err, "deleted")
			if done.Stopped > 0 {
				s.printf("of these were with a consumer, or failed before: %d\n", done.Stopped)
			}
		}
		if done.Busy > 0 && *running {
			return errors.Join(err, fmt.Errorf("not deleted: %d, which a transaction has locked: cancel again", done.Busy))
		}
		if done.Busy > 0 {
			return errors.Join(err, fmt.Errorf("not deleted: %d, which a consumer has, or which failed before and come again: "+
				"--running deletes these too, and ends the contexts of their handlers", done.Busy))
		}
		if n := done.Removed + done.Stopped; n > 0 || err != nil {
			return err
		}
		return explainNotCancelled(ctx, client, args[0], *chosen)
	})
	return cmd
}

// explainNotCancelled says that an event which does not wait is a dead letter, or that there is no such topic.
func explainNotCancelled(ctx context.Context, client *pgmq.Client, topic string, chosen backend.Selection) error {
	found, _ := client.Find(ctx, topic, chosen)
	if i := slices.IndexFunc(found, func(f backend.Found) bool { return f.State == backend.StateDead }); i >= 0 {
		return fmt.Errorf("not deleted: it is a dead letter: ezq dead purge %s --id %s deletes it", terminal.ShellWord(topic), terminal.ShellWord(found[i].ID))
	}
	return explainNone(ctx, client, topic, 0, nil)
}

// cancelView is what cancel --json prints.
type cancelView struct {
	Deleted int `json:"deleted"`
	Running int `json:"running"`           // of these, those that were with a consumer, or failed before
	Busy    int `json:"busy"`              // those that stay
	Unknown int `json:"unknown,omitempty"` // those that may have been deleted too: the answer is lost
}

func newReschedule(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reschedule TOPIC", Short: "Deliver single events that wait at another time", Args: one("topic"),
		Example: "  ezq reschedule orders --id order-7 --at 2027-01-31T09:00:00Z\n  ezq reschedule orders --id order-7 --delay 0s", ValidArgsFunction: completesTopic(s),
	}
	chosen := singleFlags(cmd)
	var at time.Time
	var delay *time.Duration
	cmd.Flags().Var(&funcValue{kind: "time", reads: func(text string) (err error) {
		if at, err = time.Parse(time.RFC3339, text); err != nil {
			err = errors.New("write it as in 2027-01-31T09:00:00Z")
		}
		return err
	}}, "at", "when, as in 2027-01-31T09:00:00Z")
	delayFlag(cmd, &delay, "or so long from now, as in 90m; 0s for at once")
	asJSON := jsonFlag(cmd)
	s.runs(cmd, func(ctx context.Context, args []string) error {
		switch {
		case chosen.ID+chosen.UniqueKey == "":
			return wrong("reschedule: say which event, with --id or --unique: find shows its ID")
		case at.IsZero() == (delay == nil):
			return wrong("reschedule: say when, with either --at or --delay")
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		if delay != nil {
			at = time.Now().Add(*delay)
		}
		done, err := client.Reschedule(ctx, args[0], *chosen, at)
		if *asJSON {
			err = errors.Join(s.printJSON(rescheduleView{Moved: done.Moved, At: at.UTC(), Busy: done.Busy, Unknown: unknownOf(err)}), err)
		} else {
			s.printf("moved: %d, to %s\n", done.Moved, timeText(at))
			printUnknown(s, err, "moved")
		}
		if done.Busy > 0 {
			return errors.Join(err, fmt.Errorf("not moved: %d, which a consumer has, or which failed before and come again: "+
				"ezq peek shows when; docs/operate.md says how to have it come now", done.Busy))
		}
		return explainNone(ctx, client, args[0], done.Moved, err)
	})
	return cmd
}

// rescheduleView is what reschedule --json prints.
type rescheduleView struct {
	Moved   int       `json:"moved"`
	At      time.Time `json:"at"`
	Busy    int       `json:"busy"`              // those that stay
	Unknown int       `json:"unknown,omitempty"` // those that may have been moved too: the answer is lost
}

// delayFlag defines --delay.
func delayFlag(cmd *cobra.Command, delay **time.Duration, usage string) {
	cmd.Flags().Var(&funcValue{kind: "duration", reads: func(text string) error {
		given, err := time.ParseDuration(text)
		if *delay = &given; err != nil || given < 0 {
			return errors.New("write it with its unit, as in 90m, or 0s for at once")
		}
		return nil
	}}, "delay", usage)
}
