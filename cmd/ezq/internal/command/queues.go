package command

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newQueues(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "queues", Short: "Show how many events wait in each queue, and for how long", Args: none(),
		Long: `Show how many events wait in each queue, and for how long, and which topics are paused.

DEAD LETTERS are those of the topic, which its groups share. In the queue ezq_schedules are the schedules, which no
consumer takes. More than 10,000 events are not counted.`,
	}
	asJSON := jsonLinesFlag(cmd, "queue")
	s.runs(cmd, func(ctx context.Context, _ []string) error {
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		all, err := client.AllMetrics(ctx)
		letters := lettersOf(all, err)
		if *asJSON {
			pauses, failed := client.AllPauses(ctx)
			return errors.Join(printQueueLines(s, all, letters, pauses), err, failed)
		}
		if failed := printQueues(s, all, letters); failed != nil {
			return failed
		}
		if len(all) == 0 && err == nil {
			s.printf("There are no queues in this database.\n")
		}
		return errors.Join(err, printPauses(ctx, s, client))
	})
	return cmd
}

// deadLetters is how many dead letters a topic has.
type deadLetters struct {
	N      *int `json:"n"` // null if that could not be counted
	Capped bool `json:"capped,omitempty"`
}

// lettersOf returns how many dead letters each topic has that has a queue for them.
func lettersOf(all []pgmq.QueueMetrics, err error) map[string]deadLetters {
	byQueue := map[string]pgmq.QueueMetrics{}
	for _, q := range all {
		byQueue[q.Queue] = q
	}
	letters := map[string]deadLetters{}
	for _, q := range all {
		name, invalid := pgmq.QueueName(q.Topic + backend.DeadLetterSuffix)
		if invalid != nil || q.Topic == "" {
			continue
		}
		if found, ok := byQueue[name]; ok {
			n := found.Visible + found.Invisible
			letters[q.Topic] = deadLetters{N: &n, Capped: found.VisibleCapped || found.InvisibleCapped}
		} else if isAbout(err, name) {
			letters[q.Topic] = deadLetters{}
		}
	}
	return letters
}

func printQueues(s *session, all []pgmq.QueueMetrics, letters map[string]deadLetters) error {
	table := terminal.NewTable(s.style, "TOPIC", "GROUP", "QUEUE", "WAITING", "OLDEST", "LEASED OR DELAYED", "DEAD LETTERS")
	for _, q := range all {
		dead, oldest := "-", "-"
		if of, ok := letters[q.Topic]; ok && of.N == nil {
			dead = "?"
		} else if ok {
			dead = count(*of.N, of.Capped)
		}
		if q.Visible > 0 {
			oldest = rounded(q.OldestVisible).String()
		}
		table.Add(orDash(q.Topic), orDash(q.Group), terminal.Printable(q.Queue), count(q.Visible, q.VisibleCapped), oldest, count(q.Invisible, q.InvisibleCapped), dead)
	}
	return table.Write(s.Out)
}

// queueView is a line of queues --json. A topic, or a group, that is paused and has no queue has no Queue.
type queueView struct {
	Topic           string       `json:"topic"`
	Group           string       `json:"group,omitempty"`
	Queue           string       `json:"queue,omitempty"`
	Waiting         int          `json:"waiting"`
	WaitingCapped   bool         `json:"waiting_capped,omitempty"` // there are more
	OldestSeconds   float64      `json:"oldest_seconds"`           // how long the first of them has waited
	Invisible       int          `json:"leased_or_delayed"`
	InvisibleCapped bool         `json:"leased_or_delayed_capped,omitempty"`
	DeadLetters     *deadLetters `json:"dead_letters,omitempty"`
	Paused          *pauseView   `json:"paused,omitempty"`
}

func printQueueLines(s *session, all []pgmq.QueueMetrics, letters map[string]deadLetters, pauses []backend.Paused) error {
	shown := map[[2]string]bool{}
	for _, q := range all {
		v := queueView{
			Topic: q.Topic, Group: q.Group, Queue: q.Queue, Waiting: q.Visible, WaitingCapped: q.VisibleCapped,
			OldestSeconds: q.OldestVisible.Seconds(), Invisible: q.Invisible, InvisibleCapped: q.InvisibleCapped,
		}
		if of, ok := letters[q.Topic]; ok {
			v.DeadLetters = &of
		}
		if i := slices.IndexFunc(pauses, func(p backend.Paused) bool { return p.Topic == q.Topic && p.Group == q.Group }); i >= 0 {
			v.Paused = viewPause(pauses[i])
			shown[[2]string{q.Topic, q.Group}] = true
		}
		if err := s.printLine(v); err != nil {
			return err
		}
	}
	for _, p := range pauses {
		if shown[[2]string{p.Topic, p.Group}] {
			continue
		}
		if err := s.printLine(queueView{Topic: p.Topic, Group: p.Group, Paused: viewPause(p)}); err != nil {
			return err
		}
	}
	return nil
}

// isAbout reports whether one of the errors that err joins is about a queue.
func isAbout(err error, queue string) bool {
	joined, ok := err.(interface{ Unwrap() []error })
	return ok && slices.ContainsFunc(joined.Unwrap(), func(err error) bool {
		about, ok := errors.AsType[*pgmq.Error](err)
		return ok && about.Topic == queue
	})
}
