package catalog

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What a publish sends is the same until it is meant to change, and then testdata shows it.
func TestRoute_StatementsAreStable(t *testing.T) {
	t.Parallel()
	for name, route := range map[string]*Route{
		"own_queue":  {Queues: []string{"orders"}},
		"two_groups": {Queues: []string{"orders.billing", "orders.mailer"}, absent: []string{"orders"}, Version: "a version"},
		"a_pattern":  {Queues: []string{"orders.audit", "orders.eu"}, patterned: []string{"orders.audit"}, topic: "orders.eu", Version: "a version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			route.prepare()
			text := fmt.Sprintf("-- Insert\n%s;\n\n-- InsertAndNotify\n%s;\n", route.Insert, route.InsertAndNotify)
			if route.InsertOne != "" {
				text += fmt.Sprintf("\n-- InsertOne\n%s;\n", route.InsertOne)
			}
			require.NotRegexp(t, `\{[a-z.]+\}`, text)
			file := filepath.Join("testdata", name+".sql")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			}
			want, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(want), text, "UPDATE_GOLDEN=1 go test writes it anew")
		})
	}
}
