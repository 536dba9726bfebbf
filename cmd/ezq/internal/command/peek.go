package command

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

func newPeek(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "peek TOPIC", Short: "Show what waits next in a queue", Args: one("topic"), ValidArgsFunction: completesTopic(s),
		Long: `Show what waits next in a queue: the events that are due, the longest first, and then those that are delayed or leased.

It changes nothing, and takes no lease. What is delivered or moved meanwhile may be missing from the next page.`,
		Example: "  ezq peek orders --payload\n  ezq peek orders --group mailer --max 3",
	}
	var p backend.Peek
	cmd.Flags().StringVarP(&p.Group, "group", "g", "", "the queue of that group")
	cmd.Flags().IntVarP(&p.Limit, "max", "n", backend.DefaultPeekLimit, "show at most so many events, up to 100")
	cmd.Flags().StringVar(&p.After, "after", "", "those behind that place, which the page before ends with")
	payload := cmd.Flags().BoolP("payload", "p", false, "with their payloads")
	asJSON := jsonLinesFlag(cmd, "event")
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if err := checkMax(p.Limit); err != nil {
			return err
		}
		if err := p.Check(); err != nil {
			return wrong("%v", err)
		}
		client, err := s.client(ctx)
		if err != nil {
			return err
		}
		found, err := client.Peek(ctx, args[0], p)
		for _, f := range found {
			if failed := printFound(s, f.Found, f.After, *asJSON, *payload); failed != nil {
				return failed
			}
		}
		if !*asJSON {
			s.printf("shown: %d\n", len(found))
		}
		if len(found) == p.Limit && !*asJSON {
			s.printf("for the next ones, add --after %s\n", terminal.ShellWord(found[len(found)-1].After))
		}
		if p.Group != "" {
			return err
		}
		return explainEmpty(ctx, client, args[0], len(found), err)
	})
	return cmd
}
