package command

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestDoctor_ShowsFindings(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	_, out, _ := outputOf(t, database, "doctor")
	require.NotContains(t, out, "missing-index")
	pgtest.Exec(t, pgtest.Pool(t, database), "drop index pgmq.q_orders_vt_idx, pgmq.q_orders_dead_vt_idx")
	_, out, _ = outputOf(t, database, "doctor")
	require.Contains(t, out, `warning: missing-index
 do: create it: each claim reads the whole table
 orders: no index begins with vt
 create index concurrently on pgmq.q_orders (vt);
 orders_dead: no index begins with vt
 create index concurrently on pgmq.q_orders_dead (vt);
`)
	code, out, _ := outputOf(t, database, "doctor", "--json", "--fail", "note")
	require.Equal(t, exitFailed, code)
	var found []pgmq.Finding
	require.NoError(t, json.Unmarshal([]byte(out), &found))
	require.Contains(t, found, pgmq.Finding{
		ID: "missing-index", Severity: pgmq.SeverityWarning, Object: "orders", Seen: "no index begins with vt",
		Remedy: "create it: each claim reads the whole table", SQL: "create index concurrently on pgmq.q_orders (vt)",
	})
}

func TestDoctor_RefusesWrongArguments(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"doctor takes no \"orders\"": {"doctor", "orders"},
		"there is no severity":       {"doctor", "--fail", "fatal"},
	} {
		code, _, errOut := outputOf(t, "unused", args...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errOut, want)
	}
}
