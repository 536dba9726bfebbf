package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// deadFlags say where the dead letters are, and which of them are meant.
type deadFlags struct {
	topic     string // that they are in
	in        string
	from      []string // the topics that they came from, if not the one that topic is named after
	selection backend.DeadLetterSelection
}

// defineTopic defines how the topic is named: that of the events, or that of the dead letters, or with --in any.
func (f *deadFlags) defineTopic(s *session, cmd *cobra.Command) {
	cmd.Flags().Var(&funcValue{kind: "topic", reads: func(text string) error {
		f.in = text
		return notEmpty(text)
	}}, "in", "the topic that the dead letters are in, in the place of TOPIC, if it is not TOPIC_dead: as middleware.Poison{Topic: …} says")
	cmd.ValidArgsFunction = completesTopic(s)
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if f.in == "" || len(args) > 1 {
			if err := one("topic")(cmd, args); err != nil {
				return err
			}
		}
		switch {
		case f.in != "" && len(args) > 0:
			return wrong("a topic and --in exclude each other: leave out %q or --in %q", args[0], f.in)
		case f.in != "":
			f.topic = f.in
		default:
			f.topic = strings.TrimSuffix(args[0], backend.DeadLetterSuffix) + backend.DeadLetterSuffix
		}
		return nil
	}
}

// defineSelection defines the flags that select dead letters.
func (f *deadFlags) defineSelection(cmd *cobra.Command) {
	flags, chosen := cmd.Flags(), &f.selection
	flags.Var(&funcValue{kind: "topic", reads: func(text string) error {
		f.from = append(f.from, text)
		return notEmpty(text)
	}}, "from", "those that came from this topic; may be given several times")
	flags.Var(&funcValue{kind: "row", reads: func(text string) error {
		row, err := strconv.ParseInt(text, 10, 64)
		chosen.Rows = append(chosen.Rows, row)
		if err != nil {
			return errors.New("write it as the list shows it, as in 42")
		}
		return nil
	}}, "row", "that row, as the list shows it; may be given several times")
	flags.StringVar(&chosen.ID, "id", "", "the ID of the event")
	flags.StringVar(&chosen.Handler, "handler", "", "the handler that has failed")
	flags.StringVarP(&chosen.Event, "event", "e", "", "the name of the event")
	flags.StringVarP(&chosen.Group, "group", "g", "", "the group whose handler has failed")
	flags.StringVar(&chosen.Reason, "reason", "", "a part of the reason, in which a # stands for a number too")
	headerFlag(cmd, &chosen.Header, &chosen.Value, "a header of the event")
	fieldFlag(cmd, &chosen.Field, &chosen.Equals)
	flags.Var(newAge(&chosen.To), "older", "those that were dead-lettered longer ago than that, as in 24h")
	flags.Var(newAge(&chosen.From), "newer", "those that were dead-lettered since then, as in 1h")
}

// newAge is a flag that reads the time that was so long ago.
func newAge(at *time.Time) *funcValue {
	return &funcValue{kind: "duration", reads: func(text string) error {
		age, err := time.ParseDuration(text)
		if err != nil || age <= 0 {
			return errors.New("write it with its unit, as in 72h or 90m")
		}
		*at = time.Now().Add(-age)
		return nil
	}}
}

func notEmpty(topic string) error {
	if topic == "" {
		return errors.New("it is empty")
	}
	return nil
}

// isSelective reports whether not all dead letters of the topics are meant.
func (f *deadFlags) isSelective() bool {
	s := f.selection
	return len(s.Rows) > 0 || s.ID+s.Handler+s.Reason+s.Event+s.Group+s.Header+s.Field != "" || !s.From.IsZero() || !s.To.IsZero()
}

// selected returns which dead letters are meant, with a limit.
func (f *deadFlags) selected(limit int) backend.DeadLetterSelection {
	s := f.selection
	s.Topics, s.Limit = f.from, limit
	return s
}

// topics returns those whose dead letters are moved or deleted.
func (f *deadFlags) topics() []string {
	if len(f.from) > 0 {
		return f.from
	}
	return []string{strings.TrimSuffix(f.topic, backend.DeadLetterSuffix)}
}

// saysFrom reports whether it is known which topics the dead letters came from.
func (f *deadFlags) saysFrom() bool {
	return len(f.from) > 0 || strings.HasSuffix(f.topic, backend.DeadLetterSuffix)
}

// topicNames names the topics whose dead letters are meant.
func (f *deadFlags) topicNames() string {
	topics := f.topics()
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = terminal.Printable(topic)
	}
	return strings.Join(names, " or ")
}

func (f *deadFlags) remaining(ctx context.Context, client *pgmq.Client) (string, error) {
	found, err := client.Metrics(ctx, f.topic)
	return count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped), err
}

// progress returns what says how many events there are in the topic of dead letters.
func (f *deadFlags) progress(client *pgmq.Client, what string) func(context.Context) string {
	return func(ctx context.Context) string {
		left, err := f.remaining(ctx, client)
		if err != nil {
			return ""
		}
		return fmt.Sprintf("%s … %s are left in %s", what, left, terminal.Printable(f.topic))
	}
}

// explainError says what is meant by a queue of dead letters that is not there, which need not be
// created, and what can be done here about strays.
func (f *deadFlags) explainError(err error, remedy string) error {
	if errors.Is(err, pgmq.ErrQueueNotFound) {
		return fmt.Errorf("there is no queue of %s: no event was given up there, or there is no such topic: run %q", terminal.Printable(f.topic), "ezq queues")
	}
	return explainStrays(err, remedy)
}

func explainStrays(err error, remedy string) error {
	strays, ok := errors.AsType[*pgmq.Error](err)
	if !ok || !errors.Is(err, pgmq.ErrStrays) {
		return err
	}
	told := *strays
	told.Remedy = remedy
	return &told
}
