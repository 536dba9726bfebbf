package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestPublish_StoresAnEventThatHandlersRead(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, out, errOut := outputOf(t, database, "publish", "orders", "--event", "OrderPaid", "-d", `{ "Order": 7 }`, "--id", "order-7",
		"--key", "ada", "-H", "tenant=a", "--delay", "1h", "--create")
	require.Zero(t, code, errOut)
	require.Equal(t, "stored in orders: order-7\n", out)
	found, err := client.Find(t.Context(), "orders", backend.Selection{ID: "order-7"})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.JSONEq(t, `{"_type":"OrderPaid","Order":7}`, string(found[0].Payload))
	require.Equal(t, "a", found[0].Metadata["tenant"])
	require.Equal(t, "ada", found[0].Metadata["x-pgmq-group"])
	require.WithinDuration(t, time.Now().Add(time.Hour), found[0].VisibleAt, time.Minute)

	code, out, _ = outputOf(t, database, "publish", "orders", "--event", "OrderPaid", "-d", `{"Order": 7}`, "--id", "order-7")
	require.Zero(t, code)
	require.Equal(t, "nothing was stored: the topic orders got an event with the ID order-7 before\n", out)
	code, out, _ = outputOf(t, database, "publish", "orders", "-d", `{"Order": 8}`, "--id", "order-8", "--json")
	require.Zero(t, code)
	require.JSONEq(t, `{"stored": 1, "id": "order-8", "topic": "orders"}`, out)
}

func TestPublish_ReadsFilesAndStandardInput(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	file := filepath.Join(t.TempDir(), "order.json")
	require.NoError(t, os.WriteFile(file, []byte("{\"Order\": 9}\n"), 0o600))
	code, _, errOut := outputOf(t, database, "publish", "orders", "--file", file, "--id", "from a file", "--create")
	require.Zero(t, code, errOut)
	variables := map[string]string{"EZQ_DATABASE_URL": database}
	code, out, errOut := outputOn(t, variables, strings.Repeat("{\"Order\": 10}\n\n", 1201), "publish", "orders", "--lines", "--event", "OrderPaid")
	require.Zero(t, code, errOut)
	require.Equal(t, "stored in orders: 1201\n", out)
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 1+1+1201, found.Visible)
}

func TestPublish_SaysWithWhichLineToGoOn(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, out, errOut := outputOn(t, map[string]string{"EZQ_DATABASE_URL": database}, "{}\n{}\n{oops\n{}\n", "publish", "orders", "--lines")
	require.Equal(t, exitFailed, code)
	require.Equal(t, "stored in orders: 2\n", out)
	require.Equal(t, "ezq: line 3: it is no JSON, as byte 2 of 5 shows: correct it, and go on from that line\n", errOut)
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 1+2, found.Visible)
}

func TestPublish_RefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	for data, want := range map[string]string{
		"":               "it is empty",
		"{'a': 1}":       "it is no JSON",
		`"\xff`:          "it is no",
		"[1]":            "it is no JSON object",
		`{"_type":"X"}`:  `it has another "_type" than --event says`,
		`{"_TYPE":"E"}`:  `it has a member that is like "_type"`,
		`{"_type":[1]}`:  `it has a member that is like "_type"`,
		"{\"a\": 1} {}":  "it is no JSON",
		"\xff\xfe{\"a\"": "it is no",
	} {
		code, out, errOut := outputOf(t, database, "publish", "orders", "--event", "E", "--data", data)
		require.Equal(t, exitFailed, code, data)
		require.Contains(t, errOut, "ezq: the payload: "+want, data)
		require.Empty(t, out)
		requireHarmless(t, errOut)
	}
	code, _, errOut := outputOf(t, database, "publish", "oders", "--data", "{}")
	require.Equal(t, exitFailed, code)
	require.NotContains(t, errOut, "NoCreate")
	require.Contains(t, errOut, "there is no topic oders: see whether the name is right with ezq queues, or create it with ezq init oders")
	code, _, errOut = outputOn(t, map[string]string{"EZQ_DATABASE_URL": database}, "{}\n", "publish", "oders", "--lines")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, "create it with ezq init oders")
	_, err := pgtest.Pool(t, database).Exec(t.Context(), "select from pgmq.q_oders")
	require.Error(t, err, "a wrong name creates no topic")
	code, _, errOut = outputOf(t, database, "publish", "oders", "--data", "{}", "--create")
	require.Zero(t, code, errOut)
}

func TestNamed_PutsTheNameFirst(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		"{}":                             `{"_type":"E"}`,
		" { } ":                          `{"_type":"E"}`,
		`{"a": 1}`:                       `{"_type":"E","a": 1}`,
		`{"b": {"_type": "x"}, "a": 1 }`: `{"_type":"E","b": {"_type": "x"}, "a": 1 }`,
		`{"a": 1, "_type": "E"}`:         `{"a": 1, "_type": "E"}`,
	} {
		got, err := named([]byte(payload), "E")
		require.NoError(t, err, payload)
		require.Equal(t, want, string(got))
		require.True(t, json.Valid(got))
	}
}

func TestPublish_UnknownOutcomeSaysHowToRepeat(t *testing.T) {
	t.Parallel()
	unknown := &pgmq.Error{Op: "publish", Outcome: pgmq.ErrUnknownOutcome}
	require.ErrorContains(t, explainPublish(unknown, "orders", &publishFlags{id: "order-7"}, "order-7"), ": run the same command again: the event is stored once")
	require.ErrorContains(t, explainPublish(unknown, "my orders", &publishFlags{}, "u"),
		": look for it with ezq find 'my orders' --id u, and publish it again with --id u if it is not there")
	require.ErrorContains(t, explainBatch(unknown, 501, 1000), "lines 501 to 1000 are all stored, or none is")
}

// readsOn runs a command whose input does not end, stops it if it is to, and returns its exit code and what it has printed.
func readsOn(t *testing.T, database string, args []string, stops bool) string {
	t.Helper()
	in, out := io.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan string, 1)
	go func() {
		var o, e strings.Builder
		got := Run(ctx, args, Process{In: in, Out: &o, Err: &e, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database})})
		_ = in.Close() // or a write waits for it
		ended <- fmt.Sprintf("%d %s%s", got, o.String(), e.String())
	}()
	_, err := out.Write([]byte("{}\n{"))
	require.NoError(t, err)
	if stops {
		stop()
	}
	select {
	case text := <-ended:
		return text
	case <-time.After(time.Minute):
		require.Fail(t, "it goes on")
		return ""
	}
}

// A pipe whose writer says nothing, and does not end, heeds neither the timeout nor Ctrl-C.
func TestInput_ThatDoesNotEndIsReadUntilTheTimeout(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	t.Run("each", func(t *testing.T) {
		for _, args := range [][]string{
			{"publish", "orders"}, {"publish", "orders", "--file", "-"}, {"publish", "orders", "--lines"}, {"dead", "edit", "orders", "--file", "-"},
		} {
			for code, timeout := range map[int]string{exitTimeout: "5s", exitFailed: "5m"} {
				t.Run(fmt.Sprint(args, code), func(t *testing.T) {
					t.Parallel()
					text := readsOn(t, database, slices.Concat(args, []string{"--timeout", timeout}), code == exitFailed)
					require.Regexp(t, fmt.Sprintf("^%d ", code), text)
					if args[len(args)-1] == "--lines" {
						require.Contains(t, text, "what was read from line 1 on is not stored: go on from that line")
					}
				})
			}
		}
	})
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 1, found.Visible)
}

// A part of a number is a number.
func TestPublish_StoresNoPartOfALine(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	in := io.MultiReader(strings.NewReader("1234\n5678\n12"), iotest.ErrReader(errors.New("the disk is broken")))
	var o, e strings.Builder
	code := Run(t.Context(), []string{"publish", "orders", "--lines"}, Process{In: in, Out: &o, Err: &e, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database})})
	require.Equal(t, exitFailed, code)
	require.Equal(t, "stored in orders: 2\n", o.String())
	require.Equal(t, "ezq: the lines after line 2 cannot be read: the disk is broken\n", e.String())
	found, err := client.Metrics(t.Context(), "orders")
	require.NoError(t, err)
	require.Equal(t, 1+2, found.Visible)
}

func TestPublish_NamesTheLineThatIsTooLong(t *testing.T) {
	t.Parallel()
	b := &lineBatch{first: 1, last: 6}
	require.EqualError(t, b.endOfInput(t.Context(), bufio.ErrTooLong), "line 7: it has more than 268435456 bytes: correct it, and go on from that line")
}

func TestPublish_SaysOneLineToGoOnFrom(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	code, _, errOut := outputOn(t, map[string]string{"EZQ_DATABASE_URL": database}, "{}\n{}\n{oops\n{}\n", "publish", "oders", "--lines")
	require.Equal(t, exitFailed, code)
	require.Equal(t, 1, strings.Count(errOut, "go on from"), errOut)
	require.Contains(t, errOut, "lines 1 to 2 are not stored: correct that, and go on from line 1")
	require.Contains(t, errOut, "ezq: line 3: it is no JSON, as byte 2 of 5 shows: correct that, too\n")
}
