package statement

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
)

// What PostgreSQL gets is the same until it is meant to change, and then testdata shows it.
func TestStatements_AreStable(t *testing.T) {
	t.Parallel()
	marked := []string{"last_read_at timestamptz"}
	for name, layout := range map[string]catalog.Layout{
		"plain":       {OID: 16385, Columns: marked},
		"old":         {OID: 16385},
		"partitioned": {OID: 16385, Partitioned: true, Columns: marked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireGolden(t, name, textOf(New("orders", layout)))
			common := []string{"headers"}
			if len(layout.Columns) > 0 {
				common = append(common, "last_read_at")
			}
			archiving := New("orders", layout).Archiving("orders", common)
			requireGolden(t, name+"_archived", textOf(Set{LockTable: archiving.LockTable, Ack: archiving.Ack, AckOne: archiving.AckOne, Quarantine: archiving.Quarantine}))
			require.Empty(t, archiving.RemoveLocked)
		})
	}
}

// textOf returns the statements with their names.
func textOf(set Set) string {
	var text strings.Builder
	value := reflect.ValueOf(set)
	for i := range value.NumField() {
		if field := value.Type().Field(i); field.IsExported() && field.Type.Kind() == reflect.String && !value.Field(i).IsZero() {
			fmt.Fprintf(&text, "-- %s\n%s;\n\n", field.Name, value.Field(i).String())
		}
	}
	return text.String() + set.DeadLetter(queuename.Table("orders_dead")) + "\n"
}

// requireGolden requires that text is that of the file. UPDATE_GOLDEN=1 writes it.
func requireGolden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".sql")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, string(want), text, "UPDATE_GOLDEN=1 go test writes it anew")
}

func TestStatements_HaveNothingInBraces(t *testing.T) {
	t.Parallel()
	set := New("orders", catalog.Layout{})
	require.NotRegexp(t, `\{[a-z.]+\}`, textOf(set))
	require.NotRegexp(t, `\{[a-z.]+\}`, textOf(set.Archiving("orders", nil)))
}
