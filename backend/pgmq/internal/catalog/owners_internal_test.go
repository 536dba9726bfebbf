package catalog

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// PostgreSQL compiles a statement that it expects to be expensive, which would take a second of each first publish.
func TestUntrustedTables_AreFoundWithoutCompilation(t *testing.T) {
	t.Parallel()
	conn, err := pgtest.Pool(t, pgtest.Database(t)).Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	tables := strings.Repeat("pgmq.q_orders,", 50)
	_, err = conn.Exec(t.Context(), "prepare look(text[], text) as "+withTrustedRoles(untrustedTablesSQL))
	require.NoError(t, err)
	for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
		_, err = conn.Exec(t.Context(), "set plan_cache_mode = "+mode)
		require.NoError(t, err)
		var text []byte
		explain := "explain (format json) execute look(string_to_array('" + tables + "', ','), '')"
		require.NoError(t, conn.QueryRow(t.Context(), explain).Scan(&text))
		var plan []struct {
			Plan struct {
				Cost float64 `json:"Total Cost"`
			}
		}
		require.NoError(t, json.Unmarshal(text, &plan))
		const jitAboveCost = 100_000 // PostgreSQL's default
		require.Less(t, plan[0].Plan.Cost, jitAboveCost/10.0, mode)
	}
}
