package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

const (
	// tailInterval is the time between two looks.
	tailInterval = 500 * time.Millisecond

	// tailPatience is how long a transaction may stay open, so that what it has stored is still shown.
	tailPatience = 30 * time.Second

	// tailMemory is how many events are remembered as shown.
	tailMemory = 5000
)

func newTail(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "tail TOPIC", Short: "Show the newest events of a topic, and with --follow those that come", Args: one("topic"), ValidArgsFunction: completesTopic(s),
		Long: `Show the newest events of a topic, and with --follow those that come, until it is stopped.

It reads the queue and its archive twice a second, changes nothing, and takes no lease. An event that is published and
acked between two looks is only seen where the archive keeps it: SubscriberConfig.Archive. One is missed whose
transaction stays open for more than 30 seconds, or while 5,000 others come.`,
		Example: "  ezq tail orders --follow --payload\n  ezq tail orders -f --json | jq .id",
	}
	var a pgmq.ArrivalSelection
	cmd.Flags().StringVarP(&a.Group, "group", "g", "", "the queue of that group")
	cmd.Flags().IntVarP(&a.Newest, "max", "n", 10, fmt.Sprintf("show the newest so many events first, up to %d", pgmq.MaxArrivals))
	follow := cmd.Flags().BoolP("follow", "f", false, "show those that come, too")
	payload := cmd.Flags().BoolP("payload", "p", false, "with their payloads")
	asJSON := jsonLinesFlag(cmd, "event")
	s.runsOnIf(cmd, func() bool { return *follow }, func(ctx context.Context, args []string) error {
		if a.Newest < 1 || a.Newest > pgmq.MaxArrivals {
			return wrong("--max is %d: set it to 1 to %d", a.Newest, pgmq.MaxArrivals)
		}
		t := &tail{topic: args[0], shown: map[int64]time.Time{}, show: func(one pgmq.Arrival) error {
			return printFound(s, one.Found, "", *asJSON, *payload)
		}, warn: func(err error) { printError(s.Err, err) }}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		n, err := t.begin(ctx, client, a)
		if err == nil && a.Group == "" {
			err = explainEmpty(ctx, client, t.topic, n, nil)
		}
		if err != nil || !*follow {
			return err
		}
		t.warn(errors.New("what a consumer acks at once is not shown, unless the archive keeps it; Ctrl-C ends it"))
		return t.follow(ctx, client, a.Group)
	})
	return cmd
}

// tail shows what a topic stores.
type tail struct {
	topic string
	after int64               // all up to that row is shown, or never will be
	shown map[int64]time.Time // the rows behind it that are shown, and since when
	show  func(pgmq.Arrival) error
	warn  func(error)

	warned string
}

// begin shows the newest, and returns how many.
func (t *tail) begin(ctx context.Context, client *pgmq.Client, a pgmq.ArrivalSelection) (int, error) {
	found, err := client.Arrivals(ctx, t.topic, a)
	if err := t.print(found, err); err != nil {
		return len(found), err
	}
	if len(found) > 0 {
		t.after = found[0].Row - 1
	}
	return len(found), nil
}

func (t *tail) follow(ctx context.Context, client *pgmq.Client, group string) error {
	ticker := time.NewTicker(tailInterval)
	defer ticker.Stop()
	for {
		found, err := client.Arrivals(ctx, t.topic, pgmq.ArrivalSelection{Group: group, After: t.after, Known: func(row int64) bool {
			_, known := t.shown[row]
			return known
		}})
		if err := t.print(found, err); err != nil {
			return err
		}
		t.forget(time.Now())
		if len(found) > 0 && ctx.Err() == nil { // there may be more
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// print shows what was found. That the archive could not be looked at is said once, and the rest is shown.
func (t *tail) print(found []pgmq.Arrival, err error) error {
	for _, one := range found {
		if failed := t.show(one); failed != nil {
			return failed
		}
		t.shown[one.Row] = time.Now()
	}
	if !errors.As(err, new(*backend.TruncatedError)) {
		return err
	}
	if text := err.Error(); text != t.warned {
		t.warned = text
		t.warn(err)
	}
	return nil
}

// forget moves on to the last row of which nothing before it is waited for any more.
func (t *tail) forget(now time.Time) {
	for row, since := range t.shown {
		if now.Sub(since) > tailPatience {
			t.after = max(t.after, row)
		}
	}
	if len(t.shown) > tailMemory {
		for row := range t.shown {
			t.after = max(t.after, row)
		}
	}
	for row := range t.shown {
		if row <= t.after {
			delete(t.shown, row)
		}
	}
}
