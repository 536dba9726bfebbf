package pgmq_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// callsOfRoles is what roles do with the topic "orders". The error of each says which GRANTs are missing.
func callsOfRoles() map[string]func(context.Context, *pgmq.Client) error {
	return map[string]func(context.Context, *pgmq.Client) error{
		"publish": func(_ context.Context, c *pgmq.Client) error {
			return c.Publish("orders", message.NewMessage("1", nil))
		},
		"publish an ID": func(ctx context.Context, c *pgmq.Client) error {
			return c.Publish("orders", conditional(ctx, "1", once(), 0))
		},
		"publish a key": func(ctx context.Context, c *pgmq.Client) error {
			return c.Publish("orders", conditional(ctx, "1", unique("k"), 0))
		},
		"replace": func(ctx context.Context, c *pgmq.Client) error {
			return c.Publish("orders", conditional(ctx, "1", replacing("k", 0), 0))
		},
		"schedule":    publishTicks,
		"measure":     func(ctx context.Context, c *pgmq.Client) error { _, err := c.Metrics(ctx, "orders"); return err },
		"measure all": func(ctx context.Context, c *pgmq.Client) error { _, err := c.AllMetrics(ctx); return err },
		"list queues": func(ctx context.Context, c *pgmq.Client) error { _, err := c.Queues(ctx); return err },
		"list letters": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.DeadLetters(ctx, "orders_dead", backend.DeadLetterSelection{Limit: 1})
			return err
		},
		"count letters": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.CountDeadLetters(ctx, "orders_dead", backend.DeadLetterSelection{})
			return err
		},
		"list origins": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.Origins(ctx, "orders_dead", backend.DeadLetterSelection{})
			return err
		},
		"purge letters": func(ctx context.Context, c *pgmq.Client) error {
			_, err := purgeDeadLetters(ctx, c, "orders_dead")
			return err
		},
		"redrive": func(ctx context.Context, c *pgmq.Client) error {
			_, err := redrive(ctx, c, "orders_dead", 1)
			return err
		},
		"purge": func(ctx context.Context, c *pgmq.Client) error { _, err := c.PurgeQueue(ctx, "orders"); return err },
		"replay": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.Replay(ctx, "orders", pgmq.ReplayFilter{})
			return err
		},
		"purge the archive": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.PurgeArchive(ctx, "orders", time.Now())
			return err
		},
		"find":   func(ctx context.Context, c *pgmq.Client) error { _, err := c.Find(ctx, "orders", byID()); return err },
		"cancel": func(ctx context.Context, c *pgmq.Client) error { _, err := c.Cancel(ctx, "orders", byID()); return err },
		"cancel what runs": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.CancelRunning(ctx, "orders", byID())
			return err
		},
		"list schedules": func(ctx context.Context, c *pgmq.Client) error { _, err := c.Schedules().List(ctx); return err },
		"reschedule": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.Reschedule(ctx, "orders", byID(), time.Now())
			return err
		},
		"pause": func(ctx context.Context, c *pgmq.Client) error {
			_, err := c.Pause(ctx, "orders", backend.Pause{By: "ada", Reason: "r"})
			return err
		},
		"resume":         func(ctx context.Context, c *pgmq.Client) error { _, err := c.Resume(ctx, "orders"); return err },
		"list pauses":    func(ctx context.Context, c *pgmq.Client) error { _, err := c.AllPauses(ctx); return err },
		"remember a key": rememberKey,
		"bind a group":   func(_ context.Context, c *pgmq.Client) error { return c.SubscribeInitialize("payments") },
	}
}

func byID() backend.Selection { return backend.Selection{ID: "7"} }

func publishTicks(ctx context.Context, client *pgmq.Client) error {
	tick := &backend.ScheduleTick{Schedule: "nightly", At: time.Now()}
	for range 2 {
		if err := client.Publish("orders", message.NewMessageWithContext(backend.WithScheduleTick(ctx, tick), "1", nil)); err != nil {
			return err
		}
		result, _ := tick.Result()
		tick = &backend.ScheduleTick{Schedule: "nightly", At: result.Now.Add(time.Microsecond)}
	}
	return nil
}

func rememberKey(ctx context.Context, client *pgmq.Client) error {
	store, err := client.KeyStore(ctx, "app.ezq_seen")
	if err != nil {
		return err
	}
	_, err = store.Seen(ctx, "k")
	return errors.Join(err, store.Mark(ctx, "k", time.Hour))
}

// prune waits until an old message is deleted from the archive, or the log says why it is not.
func prune(t *testing.T, database string) error {
	log := &logRecorder{}
	client, err := openAs(t, database, pgmq.Config{Logger: log.logger(), Subscriber: pgmq.SubscriberConfig{NoCreate: true, Archive: true, ArchiveFor: time.Hour}})
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, client.Close()) }()
	client.PruneEvery(10 * time.Millisecond)
	pool := pgtest.Pool(t, asAdministrator(t, database))
	execute(t, pool, "delete from pgmq.q_orders")
	if _, err := client.Subscribe(t.Context(), "orders"); err != nil {
		return err
	}
	pgtest.Eventually(t, patience, "a look at the archive", func() bool {
		return strings.Contains(log.String(), "cannot be pruned") || get[int](t, pool, "select count(*) from pgmq.a_orders where msg_id = 1000") == 0
	})
	for line := range strings.SplitSeq(log.String(), "\n") {
		if strings.Contains(line, "cannot be pruned") {
			return errors.New(strings.ReplaceAll(line, `\"`, `"`))
		}
	}
	return nil
}

// usesOfRoles is callsOfRoles, and those of which the log says which GRANTs are missing.
func usesOfRoles() map[string]func(*testing.T, string) error {
	uses := map[string]func(*testing.T, string) error{"prune": prune}
	for name, call := range callsOfRoles() {
		uses[name] = func(t *testing.T, database string) error {
			client, err := openAs(t, database, pgmq.Config{
				Publisher: pgmq.PublisherConfig{NoCreate: true}, Subscriber: pgmq.SubscriberConfig{NoCreate: true, Group: groupOf(name)},
			})
			if err != nil {
				return err
			}
			return call(t.Context(), client)
		}
	}
	return uses
}

func groupOf(call string) string {
	if call == "bind a group" {
		return "mailer"
	}
	return ""
}

// usedDatabase is ordersDatabase with something to do for each of usesOfRoles.
func usedDatabase(t *testing.T) string {
	t.Helper()
	database := ordersDatabase(t)
	pool := pgtest.Pool(t, database)
	execute(t, pool, "create schema app; create table app.ezq_seen (key bytea primary key, until timestamptz not null)")
	require.NoError(t, group(t, database, "mailer").CreateQueue(t.Context(), "payments", nil))
	refill(t, database)
	return database
}

func refill(t *testing.T, database string) {
	t.Helper()
	pool := pgtest.Pool(t, database)
	defer pool.Close()
	execute(t, pool, `delete from pgmq.q_orders; delete from pgmq.q_orders_dead; delete from pgmq.a_orders; delete from pgmq.q_ezq_schedules;
		delete from pgmq.topic_bindings; delete from pgmq.ezq_ids; delete from app.ezq_seen;
		insert into pgmq.q_orders (vt, message) values (now(), '{}');
		insert into pgmq.q_orders_dead (vt, message, headers) values (now(), '{}', '{"ezq_queue":"orders","topic_poisoned":"orders"}');
		insert into pgmq.a_orders (msg_id, vt, archived_at, message) values (1000, now(), now() - interval '1 day', '{}')`)
}

var grantPattern = regexp.MustCompile(`GRANT ([A-Z][^;"]*?) ON ((?:SCHEMA )?[^;]+?) TO the role`)

// privilegesIn returns the GRANTs that an error names, each split into single privileges on single columns of single tables.
func privilegesIn(err error) (all []string) {
	for _, grant := range grantPattern.FindAllStringSubmatch(err.Error(), -1) {
		for table := range strings.SplitSeq(grant[2], ", ") {
			for _, privilege := range regexp.MustCompile(`([A-Z]+)(?: \(([^)]*)\))?`).FindAllStringSubmatch(grant[1], -1) {
				for column := range strings.SplitSeq(privilege[2], ", ") {
					if column != "" {
						column = " (" + column + ")"
					}
					all = append(all, fmt.Sprintf("grant %s%s on %s to {role}", privilege[1], column, table))
				}
			}
		}
	}
	return all
}

// narrower returns what is left of privileges without one of them, or with one of them on fewer columns.
// To insert a whole row is to choose its id, and to read one is to read the message, for which a role that only counts needs no right.
func narrower(privileges []string) map[string][]string {
	fewer := map[string][]string{}
	for i, privilege := range privileges {
		fewer["without "+privilege] = slices.Delete(slices.Clone(privileges), i, i+1)
		columns := ""
		switch _, table, _ := strings.Cut(privilege, ` on "pgmq".`); {
		case strings.HasPrefix(privilege, `grant INSERT on "pgmq"."q_`):
			columns = "INSERT (vt, message, headers, last_read_at)"
		case strings.HasPrefix(privilege, `grant SELECT on "pgmq"."q_`) && !slices.Contains(privileges, `grant DELETE on "pgmq".`+table):
			columns = "SELECT (vt, msg_id, read_ct)"
		default:
			continue
		}
		_, on, _ := strings.Cut(privilege, " on ")
		fewer["with only "+columns+" on "+on] = append(slices.Delete(slices.Clone(privileges), i, i+1), "grant "+columns+" on "+on)
	}
	return fewer
}

// The role that does what the errors say can do what it wanted to, and nothing of it was too much.
func TestGrants_NamedInErrorsSufficeAndAreAllNeeded(t *testing.T) {
	t.Parallel()
	for name, use := range usesOfRoles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := usedDatabase(t)
			var granted []string
			for {
				refill(t, database)
				err := use(t, pgtest.Role(t, database, granted...))
				if err == nil {
					break
				}
				before := len(granted)
				for _, privilege := range privilegesIn(err) {
					if !slices.Contains(granted, privilege) {
						granted = append(granted, privilege)
					}
				}
				require.Greater(t, len(granted), before, "after %q: %v", granted, err)
			}
			for how, fewer := range narrower(granted) {
				refill(t, database)
				require.Error(t, use(t, pgtest.Role(t, database, fewer...)), "of %q it can do %s", granted, how)
			}
		})
	}
}
