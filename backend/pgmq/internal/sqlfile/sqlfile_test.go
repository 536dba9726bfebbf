package sqlfile_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/sqlfile"
)

func TestText_LeavesCommentsOut(t *testing.T) {
	t.Parallel()
	file := "-- Finds one.\n--\n-- Parameter: $1 its id.\n\nselect '--' -- here it stays\nfrom t\n-- and this goes\nwhere id = $1\n"
	require.Equal(t, "select '--' -- here it stays\nfrom t\nwhere id = $1", sqlfile.Text(file))
	require.Empty(t, sqlfile.Text("-- nothing else"))
}

func TestLiteral_EscapesQuotesAndBackslashes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "''", "a": "'a'", "it's": "'it''s'", `a\b`: `E'a\\b'`, `\'`: `E'\\'''`} {
		require.Equal(t, want, sqlfile.Literal(text))
	}
}
