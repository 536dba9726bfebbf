package command

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestDead_SelectsAndCounts(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers) values (now(), '{"order":{"id":17,"by":"ada"}}',
		'{"ezq_uuid":"u","topic_poisoned":"orders","handler_poisoned":"mail","reason_poisoned":"order 17: timeout","tenant":"a","ezq_group":"g"}'),
		(now(), '{}', '{"topic_poisoned":"orders","handler_poisoned":"mail","reason_poisoned":"order 4: timeout"}')`)
	require.NoError(t, err)
	_, out, _ := outputOf(t, database, "dead", "list", "orders", "--count")
	require.Equal(t, "COUNT OLDEST NEWEST TOPIC HANDLER EVENT REASON\n"+
		"3 TIME TIME orders charge OrderPaid \"card \\x1b[#mdeclined\"\n"+
		"1 TIME TIME orders mail - order #: timeout\n"+
		"1 TIME TIME orders (group g) mail - order #: timeout\n", out)
	for _, args := range [][]string{
		{"--row", "4", "--row", "999"},
		{"--id", "u"},
		{"--handler", "mail", "--group", "g"},
		{"--reason", "17: time"},
		{"--reason", "order #", "--header", "tenant=a"},
		{"--field", "order.id=17"},
		{"--field", "order.by=ada"},
		{"--field", `order.by="ada"`},
		{"--after", "3", "--max", "1"},
		{"--newer", "1h", "--id", "u", "--from", "orders"},
	} {
		code, out, errOut := outputOf(t, database, append([]string{"dead", "list", "orders"}, args...)...)
		require.Zero(t, code, errOut)
		require.Contains(t, out, "4 TIME u orders (group g): mail, after 0 failures: order 17: timeout\nshown: 1 of 5 in orders_dead\n", "%v", args)
	}
	for _, args := range [][]string{{"--older", "1h"}, {"--field", `order.id="17"`}} {
		_, out, _ = outputOf(t, database, append([]string{"dead", "list", "orders"}, args...)...)
		require.Equal(t, "shown: 0 of 5 in orders_dead\n", out)
	}
	for _, field := range []string{"order.id", "=7", "order.id=[7]"} {
		code, _, errOut := outputOf(t, database, "dead", "list", "orders", "--field", field)
		require.NotZero(t, code, field)
		require.Regexp(t, "as in order.id=7|a string, a number or a bool", errOut)
	}
	_, out, _ = outputOf(t, database, "dead", "list", "orders", "--max", "3")
	require.Contains(t, out, "for the next ones, add --after 3\n")

	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--row", "2")
	require.Equal(t, " 1 from orders go to the queue orders\nmoved back: 1\nleft in orders_dead: 4, none of which was chosen\n", out)
	_, _, errOut := outputOf(t, database, "dead", "purge", "orders", "--handler", "mail")
	require.Equal(t, "ezq: orders_dead has 4 messages, of which 2 are chosen, and would be deleted for good: add --yes\n", errOut)
	_, out, _ = outputOf(t, database, "dead", "purge", "orders", "--handler", "mail", "--yes")
	require.Equal(t, "deleted: 2\n", out)
	code, _, errOut := outputOf(t, database, "dead", "purge", "orders", "--handler", "mail", "--strays", "--yes")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "leave out what selects dead letters")
}

func TestDeadEdit_ReplacesPayload(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, document, _ := outputOf(t, database, "dead", "show", "orders", "--row", "2", "--json")
	var letter backend.FoundDeadLetter
	require.NoError(t, json.Unmarshal([]byte(document), &letter))
	require.Equal(t, "card \x1b[31mdeclined", letter.Reason)
	file := filepath.Join(t.TempDir(), "letter.json")
	number := strings.TrimPrefix(string(letter.Payload), "{\n \"Order\": ")[:1]
	edited := strings.Replace(document, `"Order": `+number, `"Order": 70`, 1)
	require.NotEqual(t, document, edited)
	require.NoError(t, os.WriteFile(file, []byte(edited), 0o600))
	code, out, errOut := outputOf(t, database, "dead", "edit", "orders", "--file", file, "--by", "ada")
	require.Zero(t, code, errOut)
	require.Equal(t, "edited: 2; to send it back, run ezq dead redrive orders --row 2\n", out)
	_, out, _ = outputOf(t, database, "dead", "list", "orders", "--row", "2", "--payload")
	require.Contains(t, out, `{"Order":70,"_type":"OrderPaid"}`)
	_, out, _ = outputOf(t, database, "dead", "show", "orders", "--row", "2", "--json")
	require.Contains(t, out, `"dead_letter_edited_by": "ada"`)

	code, _, errOut = outputOf(t, database, "dead", "edit", "orders", "--file", file, "--by", "eve")
	require.Equal(t, exitFailed, code)
	require.Contains(t, errOut, `the dead letter 2 has another payload than the one that was edited: "ada" has edited it at `)
	code, _, errOut = outputOf(t, database, "dead", "edit", "orders")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errOut, "name the file with the dead letter with --file")
	require.NoError(t, os.WriteFile(file, []byte(`{"row": 2}`), 0o600))
	_, _, errOut = outputOf(t, database, "dead", "edit", "orders", "--file", file)
	require.Contains(t, errOut, `it has no "payload", or no "version"`)
}

// JSON may contain what changes a terminal, as it is.
func TestDead_JSONIsPrintable(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, err := pgtest.Pool(t, database).Exec(t.Context(), `insert into pgmq.q_orders_dead (vt, message, headers) select now(), jsonb_build_object('x', hostile),
		jsonb_build_object('topic_poisoned', 'orders', 'reason_poisoned', hostile, hostile, hostile)
		from (select U&'\009b31m\202e\007f\+01F600\+0E0001' || chr(27) as hostile) as h`)
	require.NoError(t, err)
	_, out, _ := outputOf(t, database, "dead", "list", "orders", "--row", "4", "--json")
	require.Equal(t, -1, strings.IndexFunc(out, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }), "%q", out)
	var letter backend.FoundDeadLetter
	require.NoError(t, json.Unmarshal([]byte(out), &letter))
	require.Equal(t, "\u009b31m\u202e\u007f\U0001F600\U000E0001\x1b", letter.Reason)
}
