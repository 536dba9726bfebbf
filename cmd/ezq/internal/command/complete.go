package command

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// completionTimeout is how long the database may take to say which topics there are, while a shell waits.
const completionTimeout = time.Second

// completesTopic completes the name of a topic from those that the database has. If it does not say within a second, there
// are none, and no error.
func completesTopic(s *session) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completeTopic(cmd, s, begun), cobra.ShellCompDirectiveNoFileComp
	}
}

func completeTopic(cmd *cobra.Command, s *session, begun string) (names []string) {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, stop := context.WithTimeout(parent, completionTimeout)
	defer stop()
	found := make(chan []string, 1)
	go func() { found <- topicsOf(ctx, s) }()
	select {
	case all := <-found:
		for _, topic := range all {
			if strings.HasPrefix(topic, begun) {
				names = append(names, topic)
			}
		}
	case <-ctx.Done():
	}
	return names
}

// topicsOf returns the names of topics, those of dead letters aside, that a shell can take as they are.
func topicsOf(ctx context.Context, s *session) (names []string) {
	client, err := s.client(ctx)
	if err != nil {
		return nil
	}
	all, err := client.Queues(ctx)
	if err != nil {
		return nil
	}
	for _, q := range all {
		if q.Topic != "" && !strings.HasSuffix(q.Topic, backend.DeadLetterSuffix) && terminal.ShellWord(q.Topic) == q.Topic {
			names = append(names, q.Topic)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
