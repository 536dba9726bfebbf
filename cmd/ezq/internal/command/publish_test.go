package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
