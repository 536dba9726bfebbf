package command

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newDead(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dead", Short: "List, show, redrive, edit and purge dead letters",
		Long: `List, show, redrive, edit and purge dead letters: events that no handler could handle.

The dead letters of TOPIC are in TOPIC_dead; TOPIC_dead itself may be named too. If they are somewhere else, as
middleware.Poison{Topic: "elsewhere"} says, name that with --in elsewhere in the place of TOPIC, and the topics that they
came from with --from.

list, show, redrive and purge take all dead letters, or those for which all match that is given.`,
	}
	asGroup(cmd)
	cmd.AddCommand(newDeadList(s), newDeadShow(s), newDeadRedrive(s), newDeadPurge(s), newDeadEdit(s))
	return cmd
}

// listFlags say how dead letters are shown.
type listFlags struct {
	deadFlags
	max, limit int
	payload    bool
	asJSON     *bool
}

func newListFlags(s *session, cmd *cobra.Command, most int) *listFlags {
	f := &listFlags{}
	f.defineTopic(s, cmd)
	f.defineSelection(cmd)
	cmd.Flags().IntVarP(&f.max, "max", "n", most, "show at most so many dead letters, the oldest first")
	cmd.Flags().IntVar(&f.limit, "payload-limit", 64<<10, "show so many bytes of a payload")
	cmd.Flags().Int64Var(&f.selection.After, "after", 0, "those behind that row")
	return f
}

func (f *listFlags) check() error {
	if f.limit < 1 {
		return wrong("--payload-limit is %d: set it to 1 or more", f.limit)
	}
	return checkMax(f.max)
}

func newDeadList(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "list TOPIC", Short: "List the dead letters of a topic, with their reasons",
		Example: "  ezq dead list orders --count\n  ezq dead list orders --reason timeout --newer 1h --payload",
	}
	f := newListFlags(s, cmd, 20)
	f.asJSON = cmd.Flags().Bool("json", false, "print JSON, a line for each dead letter, with its payload up to --payload-limit")
	cmd.Flags().BoolVarP(&f.payload, "payload", "p", false, "with their payloads")
	counts := cmd.Flags().Bool("count", false, "how many there are of each topic, handler, event and reason, in which a # stands for a number")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		if *counts && f.payload {
			return wrong("--count excludes --payload")
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		if *counts {
			return printCounts(ctx, s, client, f)
		}
		letters, err := printDeadLetters(ctx, client, f, func(ctx context.Context, client *pgmq.Client, f *listFlags, letter backend.FoundDeadLetter) bool {
			return printDeadLetter(ctx, s, client, f, letter)
		})
		if letters == nil || *f.asJSON {
			return err
		}
		left, failed := f.remaining(ctx, client)
		if failed == nil {
			s.printf("shown: %d of %s in %s\n", len(letters), left, terminal.Printable(f.topic))
		}
		if len(letters) == f.max {
			s.printf("for the next ones, add --after %d\n", letters[len(letters)-1].Row)
		}
		return errors.Join(err, failed)
	})
	return cmd
}

func newDeadShow(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show TOPIC", Short: "Show dead letters with all that they have, as JSON that dead edit takes",
		Long: `Show dead letters with all that they have, as JSON.

It is what dead edit takes, with another payload, and what tests load with ezqtest.`,
		Example: "  ezq dead show orders --row 42 --payload-limit 1000000 > letter.json",
	}
	f := newListFlags(s, cmd, 1)
	f.asJSON = cmd.Flags().Bool("json", true, "print JSON, which is all that it prints")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		if err := f.check(); err != nil {
			return err
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		letters, err := printDeadLetters(ctx, client, f, func(ctx context.Context, client *pgmq.Client, f *listFlags, letter backend.FoundDeadLetter) bool {
			return printDocument(ctx, client, f, letter.Row, s.printJSON)
		})
		if err == nil && len(letters) == 0 {
			return fmt.Errorf("no dead letter of %s matches: list them with ezq dead list", terminal.Printable(f.topic))
		}
		return err
	})
	return cmd
}

// showsDeadLetter shows a dead letter, and reports whether it could be read as far as it was asked for.
type showsDeadLetter func(context.Context, *pgmq.Client, *listFlags, backend.FoundDeadLetter) (ok bool)

// printDeadLetters shows the dead letters that f selects. It returns nil if there are none to speak of.
func printDeadLetters(ctx context.Context, client *pgmq.Client, f *listFlags, show showsDeadLetter) ([]backend.FoundDeadLetter, error) {
	letters, truncated := client.DeadLetterHeads(ctx, f.topic, f.selected(f.max))
	if truncated != nil && !errors.As(truncated, new(*backend.TruncatedError)) {
		return nil, f.explainError(truncated, "--from takes those of another topic")
	}
	unread := 0
	for _, letter := range letters {
		if !show(ctx, client, f, letter) {
			unread++
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if unread > 0 {
		truncated = errors.Join(truncated, fmt.Errorf("payloads that cannot be read: %d; the list says why", unread))
	}
	return append([]backend.FoundDeadLetter{}, letters...), truncated
}

// printDeadLetter shows a dead letter, and reports whether it could be read as far as it was asked for.
func printDeadLetter(ctx context.Context, s *session, client *pgmq.Client, f *listFlags, letter backend.FoundDeadLetter) (ok bool) {
	if *f.asJSON {
		return printDocument(ctx, client, f, letter.Row, s.printLine)
	}
	s.printf("%s\n", formatDeadLetter(letter))
	if f.payload && (letter.Err == nil || errors.Is(letter.Err, pgmq.ErrStrays)) {
		return printPayload(ctx, s, client, f, letter.Row)
	}
	return true
}

// printPayload shows the payload of a dead letter, and reports whether it could be read. Of all that are shown, one
// is in memory.
func printPayload(ctx context.Context, s *session, client *pgmq.Client, f *listFlags, row int64) (ok bool) {
	letter, err := client.ReadDeadLetter(ctx, f.topic, row, f.limit)
	text := terminal.Printable(string(letter.Payload))
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		text = unreadable(err)
	case errors.Is(letter.Err, pgmq.ErrTooLarge):
		text += "… " + cut(letter.Err)
	case letter.Payload == nil:
		text = "none: the message is NULL, which another program has written"
	}
	s.printf("    %s\n", text)
	return err == nil
}

// printDocument shows a dead letter as JSON, and reports whether it could be read.
func printDocument(ctx context.Context, client *pgmq.Client, f *listFlags, row int64, show func(any) error) (ok bool) {
	letter, err := client.ReadDeadLetter(ctx, f.topic, row, f.limit)
	if err != nil {
		letter = backend.FoundDeadLetter{Row: row, Err: err}
	}
	if show(letter) == nil {
		return letter.Err == nil || errors.Is(letter.Err, pgmq.ErrStrays)
	}
	_ = show(json.RawMessage(fmt.Sprintf(`{"row": %d}`, row))) // its time has a year that JSON does not have
	return false
}

// countView is a line of dead list --count --json.
type countView struct {
	Count   int       `json:"count"`
	Oldest  time.Time `json:"oldest"`
	Newest  time.Time `json:"newest"`
	Topic   string    `json:"topic,omitempty"`
	Group   string    `json:"group,omitempty"`
	Handler string    `json:"handler,omitempty"`
	Event   string    `json:"event,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Rest    bool      `json:"rest,omitempty"` // it is the sum of all others
}

// printCounts shows how many dead letters say the same of themselves.
func printCounts(ctx context.Context, s *session, client *pgmq.Client, f *listFlags) error {
	counts, err := client.CountDeadLetters(ctx, f.topic, f.selected(f.max))
	if err != nil && !errors.As(err, new(*backend.TruncatedError)) {
		return f.explainError(err, "--from takes those of another topic")
	}
	table := terminal.NewTable(s.style, "COUNT", "OLDEST", "NEWEST", "TOPIC", "HANDLER", "EVENT", "REASON")
	for _, count := range counts {
		if *f.asJSON {
			v := countView{count.Letters, count.Oldest.UTC(), count.Newest.UTC(), count.Topic, count.Group, count.Handler, count.Event, count.Reason, count.Rest}
			if failed := s.printLine(v); failed != nil {
				return failed
			}
		}
		from, reason := orDash(count.Topic), orDash(count.Reason)
		if count.Group != "" {
			from = source(count.Topic, count.Group)
		}
		if count.Rest {
			reason = "all others: --max shows more"
		}
		table.Add(fmt.Sprint(count.Letters), timeText(count.Oldest), timeText(count.Newest), from, orDash(count.Handler), orDash(count.Event), reason)
	}
	if *f.asJSON {
		return err
	}
	return errors.Join(table.Write(s.Out), err)
}

// cut says that only the beginning of a payload is shown.
func cut(err error) string {
	text := "its JSON is cut"
	if e, ok := errors.AsType[*pgmq.Error](err); ok && e.Cause != nil {
		text += ": " + terminal.SingleLine(e.Cause.Error())
	}
	return text + "; --payload-limit sets another one"
}

// formatDeadLetter says of a dead letter what it says itself.
func formatDeadLetter(letter backend.FoundDeadLetter) string {
	if errors.Is(letter.Err, pgmq.ErrStrays) {
		return fmt.Sprintf("%d  %s  not a dead letter: it does not say where it came from", letter.Row, timeText(letter.At))
	}
	if letter.Err != nil {
		return fmt.Sprintf("%d  %s", letter.Row, unreadable(letter.Err))
	}
	return fmt.Sprintf("%d  %s  %s  %s: %s, after %s: %s", letter.Row, timeText(letter.At), terminal.Printable(letter.ID),
		source(letter.Topic, letter.Group), terminal.Printable(cmp.Or(letter.Handler, letter.Event, "no event")), failures(letter.Failures), terminal.Printable(letter.Reason))
}
