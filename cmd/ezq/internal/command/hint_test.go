package command

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHint_QuotesForeignTopicForShell(t *testing.T) {
	t.Parallel()
	database, _ := setUp(t)
	insertFrom(t, database, "tenant_acme\u009b", 1)
	_, out, _ := outputOf(t, database, "dead", "redrive", "orders", "--dry-run")
	require.Contains(t, out, ` 1 from "tenant_acme\u009b" stay: if they may go there, add --from $'tenant_acme\xc2\x9b'`+"\n")
	_, out, _ = outputOf(t, database, "dead", "redrive", "orders", "--dry-run", "--from", "tenant_acme\u009b")
	require.Contains(t, out, ` 1 from "tenant_acme\u009b" stay until the topic has a queue`)
}
