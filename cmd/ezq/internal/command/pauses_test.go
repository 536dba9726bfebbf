package command

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestPause_StopsTopicUntilResume(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, out, errOut := outputOf(t, database, "pause", "orders", "--by", "ada", "--reason", "the bank\x1b[31m is down")
	require.Zero(t, code, errOut)
	require.Equal(t, `paused: orders since TIME, until it is resumed, by ada: "the bank\x1b[31m is down"`+"\n", out)
	pauses, err := client.Pauses(t.Context(), "orders")
	require.NoError(t, err)
	require.Len(t, pauses, 1)

	code, out, _ = outputOf(t, database, "pause", "orders", "--by", "bob", "--reason", "lunch", "--for", "1h")
	require.Zero(t, code)
	require.Contains(t, out, "by ada:")
	require.Contains(t, out, "this pause holds, since it ends later")

	code, out, _ = outputOf(t, database, "queues")
	require.Zero(t, code)
	require.Contains(t, out, "\npaused: orders since TIME, until it is resumed, by ada: ")

	code, out, _ = outputOf(t, database, "resume", "orders")
	require.Zero(t, code)
	require.Equal(t, "resumed: orders\n", out)
	code, out, _ = outputOf(t, database, "resume", "orders")
	require.Zero(t, code)
	require.Equal(t, "orders was not paused\n", out)
	_, out, _ = outputOf(t, database, "queues")
	require.NotContains(t, out, "paused")
}

func TestPause_EndsWithItsTime(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, out, errOut := outputOf(t, database, "pause", "orders", "--reason", "lunch", "--for", "1h")
	require.Zero(t, code, errOut)
	require.Regexp(t, `^paused: orders since TIME, until TIME, by \S+: lunch\n$`, out)
	pauses, err := client.Pauses(t.Context(), "orders")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(time.Hour), pauses[0].Until, time.Minute)
}

func TestPause_OfAnUnknownTopicSaysSo(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	group, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mailer"}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Close()) })
	require.NoError(t, group.SubscribeInitialize("orders"))
	const doubt = "no queue"
	for _, known := range [][]string{{"orders"}, {"orders", "--group", "mailer"}} {
		code, out, errOut := outputOf(t, database, append([]string{"pause", "--by", "ada", "--reason", "r"}, known...)...)
		require.Zero(t, code, errOut)
		require.NotContains(t, out, doubt)
	}
	for _, unknown := range [][]string{{"oders"}, {"orders", "--group", "mail"}} {
		code, out, errOut := outputOf(t, database, append([]string{"pause", "--by", "ada", "--reason", "r"}, unknown...)...)
		require.Zero(t, code, errOut)
		require.Contains(t, out, doubt)
	}
}

func TestPause_NamesPatternsThatGoOn(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	group, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "audit"}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Close()) })
	for _, topic := range []string{"orders.*", "#", "#.us", "orders.eu"} {
		require.NoError(t, group.SubscribeInitialize(topic))
	}
	_, out, _ := outputOf(t, database, "pause", "orders.eu", "--by", "ada", "--reason", "lunch")
	require.Equal(t, `paused: orders.eu since TIME, until it is resumed, by ada: lunch
not paused: groups that take orders.eu by the pattern #: that is paused by itself
not paused: groups that take orders.eu by the pattern orders.*: that is paused by itself
`, out)
	_, out, _ = outputOf(t, database, "pause", "orders.*", "--by", "ada", "--reason", "lunch")
	require.Equal(t, "paused: orders.* since TIME, until it is resumed, by ada: lunch\n", out)
}

func TestResume_SaysWhatStaysPaused(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	group, err := pgmq.Open(t.Context(), database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Group: "mailer"}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, group.Close()) })
	_, err = group.Pause(t.Context(), "orders", backend.Pause{By: "a breaker", Reason: "no mail"})
	require.NoError(t, err)
	code, out, errOut := outputOf(t, database, "resume", "orders")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "paused: orders (group mailer) since TIME, until it is resumed, by a breaker: no mail\n", out)
	require.Equal(t, "ezq: the topic was not paused as a whole: name the group with --group\n", errOut)
	code, out, _ = outputOf(t, database, "resume", "orders", "--group", "mailer")
	require.Zero(t, code)
	require.Equal(t, "resumed: orders (group mailer)\n", out)
}

func TestPause_WhenWrongShowsUsage(t *testing.T) {
	t.Parallel()
	for text, args := range map[string][]string{
		"say why with --reason":    {"pause", "orders", "--by", "ada"},
		"say who pauses with --by": {"pause", "orders", "--by", " ", "--reason", "r"},
		"set it to more than 0":    {"pause", "orders", "--reason", "r", "--for", "-1s"},
		"pause: missing topic":     {"pause", "--reason", "r"},
		"resume: missing topic":    {"resume"},
		"unknown flag: --in":       {"resume", "orders", "--in", "x"},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			code, _, errOut := outputOf(t, "postgres://unused", args...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, errOut, text)
		})
	}
}

func TestPause_WithJSONNamesAWrongNameToo(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, out, errOut := outputOf(t, database, "pause", "ordesr", "--reason", "a", "--json")
	require.Zero(t, code, errOut)
	require.True(t, json.Valid([]byte(out)), out)
	require.Equal(t, "ezq: there is no queue of ordesr yet: see whether the name is right; a consumer that starts later is paused\n", errOut)
	_, _, errOut = outputOf(t, database, "pause", "orders", "--reason", "a", "--json")
	require.Empty(t, errOut)
}
