package pgmq

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/dial"
)

// A variable that was read from a file has the end of its line.
func TestOpen_TrimsWhiteSpaceOfURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://app@db/shop\n", " \tpostgres://app@db/shop?sslmode=disable\r\n", "\nhost=db user=app dbname=shop\n"} {
		config, err := dial.ParseURL(url)
		require.NoError(t, err, "%q", url)
		require.Equal(t, "app@db/shop", config.ConnConfig.User+"@"+config.ConnConfig.Host+"/"+config.ConnConfig.Database)
	}
}

func TestOpen_RefusesLineBreakInURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://app@db/shop\n?sslmode=disable", "postgres://app@db/shop%0A", "host=db user='app\n' dbname=shop"} {
		_, err := dial.ParseURL(url)
		require.ErrorIs(t, err, ErrInvalidConfig, "%q", url)
	}
}

func TestOpen_NamesWrongParameterWithoutValue(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "hunter2.crt")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	const missing = "/where/nothing/is/hunter2.crt"
	for parameter, reason := range map[string]string{
		"sslmode=hunter2": "its parameter sslmode has no valid value",
		"sslmode=verify-full&sslrootcert=" + missing: "the file of its parameter sslrootcert cannot be read: no such file or directory",
		"sslmode=verify-full&sslrootcert=" + empty:   "its parameter sslrootcert has no valid value",
		"sslcert=" + missing + "&sslkey=" + missing:  "the file of its parameter sslkey cannot be read: no such file or directory",
		"sslcert=hunter2":                       "its parameter sslcert has no valid value",
		"connect_timeout=hunter2":               "its parameter connect_timeout has no valid value",
		"target_session_attrs=hunter2":          "its parameter target_session_attrs has no valid value",
		"pool_max_conns=hunter2":                "its parameter pool_max_conns has no valid value",
		"pool_max_conn_lifetime_jitter=hunter2": "its parameter pool_max_conn_lifetime_jitter has no valid value",
		"default_query_exec_mode=hunter2":       "its parameter default_query_exec_mode has no valid value",
		"service=hunter2":                       "its parameter service has no valid value",
	} {
		_, err := dial.ParseURL("postgres://app:hunter2@db/shop?" + parameter)
		require.ErrorIs(t, err, ErrInvalidConfig, parameter)
		require.EqualError(t, err, "pgmq: open: invalid configuration: the database URL cannot be used: "+reason+
			"; correct that parameter, or the variable of libpq that sets it", parameter)
		requireNotShown(t, parameter, err)
	}
}
