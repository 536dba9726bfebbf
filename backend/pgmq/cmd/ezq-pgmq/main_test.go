package main

import (
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
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

// outputOf runs ezq-pgmq, and hides what differs from run to run.
func outputOf(t *testing.T, database string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, c strings.Builder
	code = run(t.Context(), args, database, &o, &c)
	text := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`).ReplaceAllString(o.String(), "TIME")
	text = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`).ReplaceAllString(text, "UUID")
	text = regexp.MustCompile(`\b[\d.]+m?s\b`).ReplaceAllString(text, "AGE")
	return code, regexp.MustCompile(` +`).ReplaceAllString(text, " "), c.String()
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
	require.Regexp(t, `^ezq-pgmq: pgmq: measure for "orders_dead": permission denied.*\n$`, errOut)
}

func TestQueues_ReportsEmptyDatabase(t *testing.T) {
	t.Parallel()
	_, out, _ := outputOf(t, pgtest.Database(t), "queues")
	require.Contains(t, out, "There are no queues in this database.")
}

func TestDead_ShowsReasons(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, out, _ := outputOf(t, database, "dead", "orders", "-max", "2", "-payload")
	anyOrder := regexp.MustCompile(`"Order":[123]`) // they were dead-lettered at about the same time
	require.Equal(t, `1 TIME UUID orders: charge, after 1 failure: "card \x1b[31mdeclined"
 {"Order":N,"_type":"OrderPaid"}
2 TIME UUID orders: charge, after 1 failure: "card \x1b[31mdeclined"
 {"Order":N,"_type":"OrderPaid"}
shown: 2 of 3 in orders_dead
for the next ones, add -after 2
`, anyOrder.ReplaceAllString(out, `"Order":N`))
	_, again, _ := outputOf(t, database, "dead", "-in=orders_dead", "-payload", "-max=2")
	require.Equal(t, out, again)
}

func TestRedrive_MovesDeadLettersToOrigin(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	_, out, _ := outputOf(t, database, "redrive", "-max", "2", "orders")
	require.Equal(t, " 3 from orders go to the queue orders\nmoved back: 2\nleft in orders_dead: 1; if the others succeed now, move these with -all\n", out)
	_, out, _ = outputOf(t, database, "redrive", "orders_dead", "-all")
	require.Equal(t, " 1 from orders go to the queue orders\nmoved back: 1\n", out)
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 4, found.Visible)
}

func TestPurgeDead_RequiresConfirmation(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, out, errOut := outputOf(t, database, "purge-dead", "orders")
	require.Equal(t, exitFailed, code)
	require.Empty(t, out)
	require.Equal(t, "ezq-pgmq: orders_dead has 3 messages, of which the dead letters of orders would be deleted for good: add -yes\n", errOut)
	_, out, _ = outputOf(t, database, "purge-dead", "orders", "-yes")
	require.Equal(t, "deleted: 3\n", out)
}

func TestCommands_ReportTopicWithoutDeadLetters(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for _, name := range []string{"dead", "redrive", "purge-dead"} {
		code, _, errOut := outputOf(t, database, name, "oders")
		require.Equal(t, exitFailed, code)
		require.Equal(t, "ezq-pgmq: no dead letters: the queue of oders_dead does not exist;"+
			" run \"ezq-pgmq queues\"\n", errOut)
	}
}

func TestArguments_WhenWrongShowUsage(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                             "missing command",
		"drop orders":                  `unknown command "drop"`,
		"-timeout 1m queues":           "flags come after the command, as in: ezq-pgmq queues -timeout 10m",
		"-max=3 dead orders":           "flags come after the command",
		"dead":                         "dead: missing topic",
		"dead a b":                     "dead takes one topic",
		"dead a -in b":                 "a topic and -in exclude each other: leave out \"a\" or -in \"b\"",
		"dead a -max 0":                "-max is 0: set it to 1 or more",
		"redrive a -max many":          `invalid value "many" for flag -max`,
		"queues -timeout 0":            "-timeout is 0s: set it to more than 0",
		"queues -timeout 10":           `invalid value "10" for flag -timeout: write it with its unit, as in 10m or 90s`,
		"redrive -in orders":           "-in does not say which topics the dead letters came from: name them with -from",
		"purge-dead -in orders -yes":   "-in does not say which topics the dead letters came from: name them with -from",
		"redrive a -all -max 2":        "-all and -max exclude each other",
		"redrive -max=10 -all -in b":   "-all and -max exclude each other",
		"redrive a -yes":               "flag provided but not defined: -yes",
		"queues orders":                "queues is about all that there is",
		"queues -max 3":                "flag provided but not defined: -max",
		"purge-dead a -yes -all":       "flag provided but not defined: -all",
		"purge-dead -yes -in=a b c":    "takes one topic",
		"purge-dead a -from b -strays": "-from and -strays exclude each other",
		"schedules report":             "schedules is about all that there is, and takes no \"report\"",
		"pause-schedule -reason r":     "pause-schedule: missing schedule",
		"pause-schedule report":        "say why with -reason",
		"resume-schedule a b":          "resume-schedule takes one schedule",
		"find orders":                  "find: say which messages, with -id, -key, -event, -header or -field",
		"find orders -field x":         "write it with its value, as in order.id=7",
		"find orders -header x":        "write it with its value, as in tenant=a",
		"find orders -id a -max 0":     "-max is 0: set it to 1 or more",
		"cancel orders":                "cancel: say which message, with -id or -key: find shows its ID",
		"cancel orders -event E":       "flag provided but not defined: -event",
		"reschedule orders -id a":      "reschedule: say when, with either -at or -delay",
		"reschedule a -id b -at 9:00":  "write it as in 2027-01-31T09:00:00Z",
		"reschedule a -id b -delay -1": "write it with its unit, as in 90m, or 0s for at once",
	} {
		code, _, errOut := outputOf(t, "", strings.Fields(args)...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, errOut, want, args)
		require.Contains(t, errOut, usageOf(strings.Fields(args + " -")[0]))
		require.NotContains(t, errOut[strings.Index(errOut, want):], "Flags come after", "a terminal shows what comes last")
	}
	for _, args := range [][]string{{"help"}, {"-h"}} {
		code, out, _ := outputOf(t, "", args...)
		require.Zero(t, code, args)
		require.Contains(t, out, "redrive TOPIC")
	}
}

// A mistake at 3 a.m. must not be answered with three pages.
func TestUsage_OfACommandIsAboutThatAlone(t *testing.T) {
	t.Parallel()
	all := regexp.MustCompile(`(?m)^  ezq-pgmq (\S+)`).FindAllStringSubmatch(usage, -1)
	require.Len(t, all, 14)
	for _, found := range all {
		name := found[1]
		code, out, _ := outputOf(t, "", name, "-help")
		require.Zero(t, code, name)
		require.Equal(t, 1, strings.Count(out, "\n ezq-pgmq ")+strings.Count(out, "ezq-pgmq "+name), out)
		require.LessOrEqual(t, strings.Count(out, "\n"), 25, name)
		require.Equal(t, (&command{name: name}).isAboutDeadLetters(), strings.Contains(out, "-older 24h"), name)
		code, _, errOut := outputOf(t, "postgres://unused", name, "-nonsense")
		require.Equal(t, exitUsage, code, name)
		require.NotContains(t, errOut, "unknown command", name)
	}
}

func TestArguments_RefuseEmptyTopic(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"dead", ""}, {"redrive", "", "-all"}, {"purge-dead", ""}} {
		code, _, errOut := outputOf(t, "", args...)
		require.Equal(t, exitUsage, code, args)
		require.Contains(t, errOut, args[0]+": missing topic: the argument is empty", args)
	}
	for _, args := range [][]string{{"redrive", "a", "-from", ""}, {"purge-dead", "a", "-from", ""}, {"dead", "-in", ""}} {
		code, _, errOut := outputOf(t, "", args...)
		require.Equal(t, exitUsage, code, args)
		require.Regexp(t, `invalid value "" for flag -(from|in): it is empty`, errOut)
	}
}

func TestRedrive_ReportsNothingToMove(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), "select pgmq.create('orders_dead')")
	require.NoError(t, err)
	for _, args := range [][]string{{"redrive", "orders", "-show"}, {"redrive", "orders", "-from", "x", "-show"}} {
		code, out, _ := outputOf(t, database, args...)
		require.Zero(t, code)
		require.Equal(t, "there is nothing in orders_dead that could be moved now\n", out)
	}
	_, err = pgtest.Pool(t, database).Exec(t.Context(), "select pgmq.send('orders_dead', '{}', 600)")
	require.NoError(t, err)
	_, out, _ := outputOf(t, database, "redrive", "orders", "-show")
	require.Equal(t, "there is nothing in orders_dead that could be moved now: 1 are leased or delayed\n", out)
	for _, args := range [][]string{{"redrive", "orders", "-all"}, {"redrive", "orders"}} {
		code, out, _ := outputOf(t, database, args...)
		require.Zero(t, code)
		require.Equal(t, "moved back: 0\nleft in orders_dead: 1, which are leased, delayed or new: redrive again when they are due\n", out)
	}
}

func TestDatabaseURL_WhenUnsetIsNamedInError(t *testing.T) {
	t.Parallel()
	for _, blank := range []string{"", " ", "\n"} {
		code, _, errOut := outputOf(t, blank, "queues")
		require.Equal(t, exitFailed, code)
		require.Contains(t, errOut, "EZQ_DATABASE_URL is not set")
	}
	code, _, errOut := outputOf(t, "postgres://app:hunter2@127.0.0.1:1/x", "queues")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "no connection to PostgreSQL")
	require.NotContains(t, errOut, "hunter2")
}

func TestDatabaseURL_WhenInvalidIsNotShown(t *testing.T) {
	t.Parallel()
	code, _, errOut := outputOf(t, "postgress://app:hunter2@db.example:5432/shop?sslmode=disable", "queues")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "the database URL cannot be parsed; write it as postgres://")
	require.NotContains(t, errOut, "hunter2")
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
	_, out, _ = outputOf(t, database, "dead", "orders")
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
	code, out, errOut := outputOf(t, database, "queues", "-timeout", "30s")
	require.Equal(t, exitFailed, code)
	require.Contains(t, out, "orders_dead - orders_dead 3 AGE 0 -")
	require.Regexp(t, `^ezq-pgmq: pgmq: measure for "orders": .*another transaction has locked .*\n$`, errOut)
}
