package command

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// pauseFlags say who pauses something, why, and for how long.
type pauseFlags struct {
	by, reason string
	duration   time.Duration
	asJSON     *bool
}

func newPauseFlags(cmd *cobra.Command) *pauseFlags {
	f := &pauseFlags{asJSON: jsonFlag(cmd)}
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, which is logged where the pause holds; it must be given")
	byFlag(cmd, &f.by)
	cmd.Flags().Var(newDuration(&f.duration), "for", "pause for so long, as in 1h, and not until resume")
	return f
}

// byFlag defines --by.
func byFlag(cmd *cobra.Command, by *string) {
	cmd.Flags().StringVar(by, "by", "", "who does it, if it is not the user of this machine")
	cmd.PreRun = func(cmd *cobra.Command, _ []string) {
		if !cmd.Flags().Changed("by") {
			*by = userName()
		}
	}
}

// userName returns the name of the user of the machine, or "".
func userName() string {
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return ""
}

func (f *pauseFlags) check() error {
	switch {
	case strings.TrimSpace(f.reason) == "":
		return wrong("say why with --reason: it is logged where the pause holds")
	case strings.TrimSpace(f.by) == "":
		return wrong("say who pauses with --by: it is logged where the pause holds")
	}
	return nil
}

func (f *pauseFlags) pause() backend.Pause {
	return backend.Pause{By: f.by, Reason: f.reason, For: f.duration}
}

// print shows the pause that holds now. It can be another than that which was asked for.
func (f *pauseFlags) print(s *session, kind, what string, paused backend.Paused) error {
	if *f.asJSON {
		return s.printJSON(viewPause(paused))
	}
	s.printf("%s\n", formatPause(what, paused))
	if paused.By != f.by || paused.Reason != f.reason {
		s.printf("this pause holds, since it ends later; to replace it, resume the %s first\n", kind)
	}
	return nil
}

// pauseView is a pause, as JSON.
type pauseView struct {
	By     string     `json:"by"`
	Reason string     `json:"reason"`
	Since  time.Time  `json:"since"`
	Until  *time.Time `json:"until,omitempty"` // missing if it holds until resume
}

func viewPause(p backend.Paused) *pauseView {
	v := &pauseView{By: p.By, Reason: p.Reason, Since: p.Since.UTC()}
	if !p.Until.IsZero() {
		until := p.Until.UTC()
		v.Until = &until
	}
	return v
}

// formatPause is one line about what is paused, whatever others have written there.
func formatPause(what string, p backend.Paused) string {
	until := "until it is resumed"
	if !p.Until.IsZero() {
		until = "until " + timeText(p.Until)
	}
	return fmt.Sprintf("paused: %s since %s, %s, by %s: %s", what, timeText(p.Since), until, terminal.Printable(p.By), terminal.Printable(p.Reason))
}

// printPauses shows all pauses that hold.
func printPauses(ctx context.Context, s *session, client *pgmq.Client) error {
	all, err := client.AllPauses(ctx)
	for _, paused := range all {
		s.printf("%s\n", formatPause(source(paused.Topic, paused.Group), paused))
	}
	return err
}

func newPause(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "pause TOPIC", Short: "Stop the consumers of a topic, in all processes, until resume", Args: one("topic"),
		Long: `Stop the consumers of a topic, in all processes, until resume.

Handlers that run go on, and so do publishers. Of two pauses the one that ends later holds.`,
		Example:           `  ezq pause orders --reason "the bank is down" --for 1h`,
		ValidArgsFunction: completesTopic(s),
	}
	flags := newPauseFlags(cmd)
	group := cmd.Flags().StringP("group", "g", "", "only the consumers of that group")
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		topic := args[0]
		client, err := s.groupClient(ctx, *group)
		if err != nil {
			return err
		}
		paused, err := client.Pause(ctx, topic, flags.pause())
		if err != nil {
			return err
		}
		if err := flags.print(s, "topic", source(paused.Topic, paused.Group), paused); err != nil {
			return err
		}
		note := s.printf
		if *flags.asJSON {
			note = func(format string, args ...any) { _, _ = fmt.Fprintf(s.Err, "ezq: "+format, args...) }
		}
		if found, err := hasQueue(ctx, client, topic, *group); !found && err == nil {
			note("there is no queue of %s yet: see whether the name is right; a consumer that starts later is paused\n", source(topic, *group))
		}
		for _, pattern := range patternsOf(ctx, client, topic, *group) {
			note("not paused: groups that take %s by the pattern %s: that is paused by itself\n", terminal.Printable(topic), terminal.Printable(pattern))
		}
		return nil
	})
	return cmd
}

// patternsOf returns the patterns by which groups take the topic, as far as the role may see them.
func patternsOf(ctx context.Context, client *pgmq.Client, topic, group string) (patterns []string) {
	if group != "" || backend.IsPattern(topic) {
		return nil
	}
	all, _ := client.Queues(ctx)
	for _, q := range all {
		if q.Group != "" && backend.IsPattern(q.Topic) && backend.MatchesPattern(q.Topic, topic) {
			patterns = append(patterns, q.Topic)
		}
	}
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

// hasQueue reports whether the topic, or the group, has a queue. It returns an error if the role may not see whether
// a topic without one has groups.
func hasQueue(ctx context.Context, client *pgmq.Client, topic, group string) (bool, error) {
	_, err := client.Metrics(ctx, topic)
	if !errors.Is(err, pgmq.ErrQueueNotFound) {
		return true, nil
	}
	all, err := client.Queues(ctx)
	return group == "" && slices.ContainsFunc(all, func(q pgmq.QueueInfo) bool { return q.Topic == topic }), err
}

func newResume(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "resume TOPIC", Short: "Let the consumers of a topic go on that pause has stopped", Args: one("topic"),
		ValidArgsFunction: completesTopic(s),
	}
	group := cmd.Flags().StringP("group", "g", "", "only the consumers of that group")
	s.runs(cmd, func(ctx context.Context, args []string) error {
		client, err := s.groupClient(ctx, *group)
		if err != nil {
			return err
		}
		resumed, err := client.Resume(ctx, args[0])
		if err != nil {
			return err
		}
		what := source(args[0], *group)
		if resumed {
			s.printf("resumed: %s\n", what)
		}
		left, err := client.Pauses(ctx, args[0])
		for _, paused := range left {
			s.printf("%s\n", formatPause(source(paused.Topic, paused.Group), paused))
		}
		switch {
		case err != nil || resumed:
			return err
		case len(left) == 0:
			s.printf("%s was not paused\n", what)
			return nil
		case *group != "":
			return errors.New("the group was not paused by itself: leave out --group to resume the topic")
		}
		return errors.New("the topic was not paused as a whole: name the group with --group")
	})
	return cmd
}
