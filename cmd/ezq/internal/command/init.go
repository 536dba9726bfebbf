package command

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/provision"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// serviceFlags say what a service needs, instead of a file or with it.
type serviceFlags struct {
	file    string
	groups  []string
	indexes []string
	kind    string
	tune    bool
}

func (f *serviceFlags) define(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "take the topics from this file, as ezq.json")
	flags.StringArrayVar(&f.groups, "group", nil, "a group of consumers of each topic; can be given several times")
	flags.StringArrayVar(&f.indexes, "index", nil, "an index of each queue: key, id, event, header:NAME or field:PATH")
	flags.StringVar(&f.kind, "kind", "", "of the queues: plain, unlogged or partitioned (default plain)")
	flags.BoolVar(&f.tune, "tune", false, "set the storage parameters of busy queues")
}

// service returns what the flags and the arguments say.
func (f *serviceFlags) service(topics []string) (provision.Service, error) {
	var s provision.Service
	if f.file != "" {
		if len(topics) > 0 || len(f.groups) > 0 || len(f.indexes) > 0 || f.kind != "" || f.tune {
			return s, wrong("topics come from --file, or from the arguments and the other flags")
		}
		text, err := os.ReadFile(f.file)
		if err == nil {
			s, err = provision.Read(text)
		}
		if err != nil {
			return s, fmt.Errorf("%s: %w", f.file, err)
		}
		return s, nil
	}
	if len(topics) == 0 {
		return s, wrong("name topics, as in ezq init orders, or a --file")
	}
	for _, topic := range topics {
		s.Topics = append(s.Topics, provision.Topic{Topic: topic, Groups: f.groups, Kind: f.kind, Indexes: f.indexes, Tune: f.tune})
	}
	return s, s.Check()
}

func newInit(s *session) *cobra.Command {
	var wanted serviceFlags
	var agreed consent
	cmd := &cobra.Command{
		Use: "init [topic…]", Short: "Create the queues, groups and indexes of a service",
		Long: `init creates what a service needs: the queue of each topic, or those of its groups, a queue for its dead letters, and
indexes. What is there already stays as it is: if it differs, init says so, and its exit code is 1.

A group is bound to its topic only if all roles that publish to the topic now may insert into the group's queue:
otherwise each of their publishes would fail. See ezq grants.

The topics are arguments, or in a JSON file, whose fields are these:

  {"topics": [{
    "topic": "orders",
    "groups": ["mailer"],             groups of consumers, each with a queue
    "own_queue": false,               a queue for consumers without a group; the default is true if there are no groups
    "kind": "plain",                  plain, unlogged or partitioned
    "dead_letters": true,             a queue for dead letters, which is the default
    "tune": true,                     the storage parameters of busy queues
    "indexes": ["key", "id", "event", "header:tenant", "field:order.id"],
    "archive_indexes": ["id"]
  }]}

How long an archive is kept is a setting of its consumers: ArchiveFor.`,
		Example: "ezq init orders payments --yes\nezq init orders --group mailer --group billing --index key --dry-run\nezq init --file ezq.json",
	}
	wanted.define(cmd)
	agreed.define(cmd.Flags())
	bind := cmd.Flags().Bool("bind", false, "bind groups also where roles that publish may not insert into their queues")
	s.runsWithin(cmd, setupTimeout, func(ctx context.Context, topics []string) error {
		service, err := wanted.service(topics)
		if err != nil {
			return err
		}
		return initialize(ctx, s, service, *bind, agreed)
	})
	return cmd
}

func initialize(ctx context.Context, s *session, service provision.Service, bind bool, agreed consent) error {
	pool, err := s.pool(ctx)
	if err != nil {
		return err
	}
	clients := map[string]*pgmq.Client{}
	db := provision.Database{Pool: pool, Client: func(ctx context.Context, group string) (*pgmq.Client, error) {
		if clients[group] == nil {
			client, err := s.groupClient(ctx, group)
			if err != nil {
				return nil, err
			}
			clients[group] = client
		}
		return clients[group], nil
	}}
	plan, err := provision.NewPlan(ctx, db, service, bind)
	if err != nil {
		return err
	}
	for _, there := range plan.There {
		s.printf("is there: %s\n", terminal.SingleLine(there))
	}
	for _, step := range plan.Steps {
		s.printf("- %s\n", terminal.SingleLine(step.Title))
	}
	if len(plan.Steps) == 0 {
		s.printf("nothing is to be done\n")
	} else if err := agreed.ask(ctx, s); err != nil && !errors.Is(err, errDryRun) {
		return err
	} else if err == nil {
		for _, step := range plan.Steps {
			if err := step.Do(ctx); err != nil {
				return fmt.Errorf("%w; what was done before stays: run the command again to go on", err)
			}
		}
		s.printf("done\n")
	}
	var differs []error
	for _, text := range plan.Differs {
		differs = append(differs, errors.New(text))
	}
	return errors.Join(differs...)
}
