package command

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

type OrderPaid struct{ Order int }

// setUp returns a database whose topic orders has three dead letters, and an order that waits.
func setUp(t *testing.T) (database string, client *pgmq.Client) {
	t.Helper()
	database = pgtest.Database(t)
	client, err := pgmq.Open(t.Context(), database, nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1, Logger: slog.New(slog.DiscardHandler)})
	router.Use(middleware.Poison{Logger: slog.New(slog.DiscardHandler)}.Middleware)
	ezq.Handle(router, func(context.Context, OrderPaid) error {
		return ezq.Permanent(errors.New("card \x1b[31mdeclined"))
	}, ezq.Topic("orders"), ezq.Name("charge"))
	events := []any{OrderPaid{1}, OrderPaid{2}, OrderPaid{3}, ezq.EndEvent{}}
	require.NoError(t, ezq.PublishBatch(t.Context(), client, events, ezq.Topic("orders")))
	require.NoError(t, router.Run(t.Context()))
	require.NoError(t, ezq.Publish(t.Context(), client, OrderPaid{4}, ezq.Topic("orders")))
	return database, client
}

func TestQueues_ShowsDeadLetterCounts(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, out, errOut := outputOf(t, database, "queues")
	require.Zero(t, code)
	require.Empty(t, errOut)
	require.Equal(t, `TOPIC GROUP QUEUE WAITING OLDEST LEASED OR DELAYED DEAD LETTERS
orders - orders 1 AGE 0 3
orders_dead - orders_dead 3 AGE 0 -
`, out)
}

func TestQueues_NamesQueueHiddenFromRole(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	role := pgtest.Role(t, database, "grant usage on schema pgmq to {role}; grant select on pgmq.meta, pgmq.q_orders to {role}")
	code, out, errOut := outputOf(t, role, "queues")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "orders - orders 1 AGE 0 ?\n", "nothing tells that there are no dead letters")
	require.Regexp(t, `^ezq: pgmq: measure for "orders_dead": permission denied.*\n$`, errOut)
}

func TestQueues_ReportsEmptyDatabase(t *testing.T) {
	t.Parallel()
	_, out, _ := outputOf(t, pgtest.Database(t), "queues")
	require.Contains(t, out, "There are no queues in this database.")
}

func TestDead_ShowsReasons(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, out, _ := outputOf(t, database, "dead", "list", "orders", "--max", "2", "--payload")
	anyOrder := regexp.MustCompile(`"Order":[123]`) // they were dead-lettered at about the same time
	require.Equal(t, `1 TIME UUID orders: charge, after 1 failure: "card \x1b[31mdeclined"
 {"Order":N,"_type":"OrderPaid"}
2 TIME UUID orders: charge, after 1 failure: "card \x1b[31mdeclined"
 {"Order":N,"_type":"OrderPaid"}
shown: 2 of 3 in orders_dead
for the next ones, add --after 2
`, anyOrder.ReplaceAllString(out, `"Order":N`))
	_, again, _ := outputOf(t, database, "dead", "list", "--in=orders_dead", "--payload", "--max=2")
	require.Equal(t, out, again)
}

func TestRedrive_MovesDeadLettersToOrigin(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	_, out, _ := outputOf(t, database, "dead", "redrive", "--max", "2", "orders")
	require.Equal(t, " 3 from orders go to the queue orders\nof these, the oldest 2, as --max says; --all moves all\nmoved back: 2\nleft in orders_dead: 1; if the others succeed now, move these with --all\n", out)
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders_dead", "--all")
	require.Equal(t, " 1 from orders go to the queue orders\nmoved back: 1\n", out)
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 4, found.Visible)
}

func TestDeadPurge_RequiresConfirmation(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, out, errOut := outputOf(t, database, "dead", "purge", "orders")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Equal(t, "ezq: orders_dead has 3 messages, of which the dead letters of orders would be deleted for good: add --yes\n", errOut)
	_, out, _ = outputOf(t, database, "dead", "purge", "orders", "--yes")
	require.Equal(t, "deleted: 3\n", out)
}

func TestCommands_ReportTopicWithoutDeadLetters(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for _, name := range []string{"list", "show", "redrive", "purge"} {
		code, _, errOut := outputOf(t, database, "dead", name, "oders")
		require.Equal(t, exitFailed, code)
		require.Equal(t, "ezq: there is no queue of oders_dead: no event was given up there, or there is no such topic:"+
			" run \"ezq queues\"\n", errOut)
	}
}

func TestArguments_WhenWrongShowUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                               "missing command",
		"drop orders":                    `unknown command "drop"`,
		"queus":                          `unknown command "queus": did you mean "ezq queues"?`,
		"dead":                           `missing command: "ezq dead --help" lists them`,
		"dead orders":                    `unknown command "orders": dead letters of a topic are listed by "ezq dead list orders"`,
		"dead redrve":                    `unknown command "redrve": did you mean "ezq dead redrive"?`,
		"dead list":                      "list: missing topic",
		"dead list a b":                  "list takes one topic",
		"dead list a --in b":             "a topic and --in exclude each other: leave out \"a\" or --in \"b\"",
		"dead list a --max 0":            "--max is 0: set it to 1 or more",
		"dead list a --count --payload":  "--count excludes --payload",
		"dead redrive a --max many":      `invalid argument "many" for "-n, --max" flag`,
		"queues --timeout 0":             `invalid argument "0" for "--timeout" flag: set it to more than 0`,
		"queues --timeout 10":            `invalid argument "10" for "--timeout" flag: write it with its unit, as in 10m or 90s`,
		"dead redrive --in orders":       "--in does not say which topics the dead letters came from: name them with --from",
		"dead purge --in orders --yes":   "--in does not say which topics the dead letters came from: name them with --from",
		"dead redrive a --all --max 2":   "--all and --max exclude each other",
		"dead redrive -n10 --all --in b": "--all and --max exclude each other",
		"dead redrive a --yes":           "unknown flag: --yes",
		"queues orders":                  `queues takes no "orders"`,
		"queues --max 3":                 "unknown flag: --max",
		"dead purge a --yes --all":       "unknown flag: --all",
		"dead purge --yes --in=a b c":    "takes one topic",
		"dead purge a --from b --strays": "--from and --strays exclude each other",
		"schedules report":               `unknown command "report"`,
		"schedules pause --reason r":     "pause: missing schedule",
		"schedules pause report":         "say why with --reason",
		"schedules resume a b":           "resume takes one schedule",
		"find orders":                    "find: say which events, with --id, --unique, --key, --event, --header or --field",
		"find a --key b -H c=d":          "find: --key and --header exclude each other",
		"cancel a --key b":               "unknown flag: --key",
		"find orders --field x":          "write it with its value, as in order.id=7",
		"find orders --header x":         "write it with its value, as in tenant=a",
		"find orders --id a --max 0":     "--max is 0: set it to 1 or more",
		"cancel orders":                  "cancel: say which event, with --id or --unique: find shows its ID",
		"cancel orders --event E":        "unknown flag: --event",
		"reschedule orders --id a":       "reschedule: say when, with either --at or --delay",
		"reschedule a --id b --at 9:00":  "write it as in 2027-01-31T09:00:00Z",
		"reschedule a --id b --delay -1": "write it with its unit, as in 90m, or 0s for at once",
	} {
		code, _, errOut := outputOf(t, "", strings.Fields(args)...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, errOut, want, args)
		require.Contains(t, errOut, "Usage:\n  ezq", args)
		require.NotContains(t, errOut[strings.Index(errOut, want):], "Usage:", "a terminal shows what comes last")
	}
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}} {
		code, out, _ := outputOf(t, "", args...)
		require.Zero(t, code, args)
		require.Contains(t, out, " reschedule Deliver single events")
	}
}

// A mistake at 3 a.m. must not be answered with three pages.
func TestUsage_OfACommandIsAboutThatAlone(t *testing.T) {
	t.Parallel()
	for _, path := range allCommands(t) {
		code, _, errOut := outputOf(t, "postgres://unused", append(path, "--nonsense")...)
		require.Equal(t, exitUsage, code, path)
		require.Contains(t, errOut, "Usage:\n  ezq "+strings.Join(path, " "), path)
		require.Contains(t, errOut, "ezq: unknown flag: --nonsense\n", path)
		require.LessOrEqual(t, strings.Count(errOut, "\n"), 5, path)
		code, out, _ := outputOf(t, "", append(path, "--help")...)
		require.Zero(t, code, path)
		require.Contains(t, out, "ezq "+strings.Join(path, " "), path)
	}
}

// allCommands returns the words of each command that does something.
func allCommands(t *testing.T) (paths [][]string) {
	t.Helper()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Name() != "help" && sub.Name() != "completion" {
				paths = append(paths, strings.Fields(sub.CommandPath())[1:])
				walk(sub)
			}
		}
	}
	walk(newRoot(newSession(Process{Lookup: lookupIn(nil)})))
	require.Greater(t, len(paths), 15)
	return paths
}

func TestArguments_RefuseEmptyTopic(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"dead", "list", ""}, {"dead", "redrive", "", "--all"}, {"dead", "purge", ""}} {
		code, _, errOut := outputOf(t, "", args...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, errOut, args[1]+": missing topic: the argument is empty", args)
	}
	for _, args := range [][]string{{"dead", "redrive", "a", "--from", ""}, {"dead", "purge", "a", "--from", ""}, {"dead", "list", "--in", ""}} {
		code, _, errOut := outputOf(t, "", args...)
		require.Equal(t, exitUsage, code, args)
		require.Regexp(t, `invalid argument "" for "--(from|in)" flag: it is empty`, errOut)
	}
}

func TestRedrive_ReportsNothingToMove(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), "select pgmq.create('orders_dead')")
	require.NoError(t, err)
	for _, args := range [][]string{{"dead", "redrive", "orders", "--dry-run"}, {"dead", "redrive", "orders", "--from", "x", "--dry-run"}} {
		code, out, _ := outputOf(t, database, args...)
		require.Zero(t, code)
		require.Equal(t, "there is nothing in orders_dead that could be moved now\n", out)
	}
	_, err = pgtest.Pool(t, database).Exec(t.Context(), "select pgmq.send('orders_dead', '{}', 600)")
	require.NoError(t, err)
	_, out, _ := outputOf(t, database, "dead", "redrive", "orders", "--dry-run")
	require.Equal(t, "there is nothing in orders_dead that could be moved now: 1 are leased or delayed\n", out)
	for _, args := range [][]string{{"dead", "redrive", "orders", "--all"}, {"dead", "redrive", "orders"}} {
		code, out, _ := outputOf(t, database, args...)
		require.Zero(t, code)
		require.Equal(t, "moved back: 0\nleft in orders_dead: 1, which are leased, delayed or new: redrive again when they are due\n", out)
	}
}

func TestQueues_ShowsGroupsWithSharedDeadLetters(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	open := func(group string) *pgmq.Client {
		client, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: group}})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, client.Close()) })
		require.NoError(t, client.SubscribeInitialize("orders"))
		return client
	}
	client := open("mailer")
	open("billing")
	refuse := func(message.HandlerFunc) message.HandlerFunc {
		return func(*message.Message) ([]*message.Message, error) { return nil, ezq.Permanent(errors.New("refused")) }
	}
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1, Logger: slog.New(slog.DiscardHandler)})
	router.Use(middleware.Poison{}.Middleware, refuse)
	ezq.Handle(router, func(context.Context, OrderPaid) error { return nil }, ezq.Topic("orders"))
	require.NoError(t, ezq.PublishBatch(t.Context(), client, []any{OrderPaid{1}, ezq.EndEvent{}}, ezq.Topic("orders")))
	require.NoError(t, router.Run(t.Context()))

	_, out, _ := outputOf(t, database, "queues")
	require.Regexp(t, `(?m)^orders billing orders_billing_h[0-9a-f]{20} 2 AGE 0 1$`, out)
	require.Regexp(t, `(?m)^orders mailer orders_mailer_h[0-9a-f]{20} 0 - 0 1$`, out)
	_, out, _ = outputOf(t, database, "dead", "list", "orders")
	require.Contains(t, out, "orders (group mailer): OrderPaid, after 1 failure: refused")
}

func TestDead_ShowsEventOfUnhandledDeadLetter(t *testing.T) {
	t.Parallel()
	for want, deadLetter := range map[string]backend.FoundDeadLetter{
		"orders: OrderLost, after": {Topic: "orders", Event: "OrderLost"},
		"orders: no event, after":  {Topic: "orders"},
		"orders: charge, after":    {Topic: "orders", Handler: "charge", Event: "OrderPaid"},
	} {
		require.Contains(t, formatDeadLetter(deadLetter), want)
	}
}

func TestQueues_NamesLockedQueueBesideOthers(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	tx, err := pgtest.Pool(t, database).Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	_, err = tx.Exec(t.Context(), "lock table pgmq.q_orders")
	require.NoError(t, err)
	code, out, errOut := outputOf(t, database, "queues", "--timeout", "30s")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "orders_dead - orders_dead 3 AGE 0 -")
	require.Regexp(t, `^ezq: pgmq: measure for "orders": .*another transaction has locked .*\n$`, errOut)
}
