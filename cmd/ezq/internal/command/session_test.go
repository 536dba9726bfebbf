package command

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// Those who look for the connections of consumers must not find those of the command.
func TestSession_NamesItsConnections(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool := pgtest.Pool(t, database)
	for want, name := range map[string]string{"ezq-cli": "", "ezq-console": "ezq-console"} {
		s := newSession(Process{Out: io.Discard, Lookup: lookupIn(map[string]string{"EZQ_DATABASE_URL": database})})
		t.Cleanup(s.close)
		s.name = name
		_, err := s.client(t.Context())
		require.NoError(t, err)
		var found bool
		require.NoError(t, pool.QueryRow(t.Context(), `select exists (select from pg_stat_activity
			where application_name = $1 and datname = current_database())`, want).Scan(&found))
		require.True(t, found, want)
	}
}
