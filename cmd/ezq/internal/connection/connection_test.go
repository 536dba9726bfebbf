package connection_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/cmd/ezq/internal/connection"
)

func TestNamed_TellsTheCommandFromConsumers(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://ada:b%23c@host:5432/shop":          "ezq-cli",
		"postgresql://ada@host/shop?sslmode=disable\n": "ezq-cli",
		"host=host user=ada password='a b'":            "ezq-cli",
		"":                                             "ezq-cli",
		"postgres://ada@host/shop?application_name=maintenance": "maintenance",
		"host=host application_name=maintenance":                "maintenance",
	} {
		config, err := pgxpool.ParseConfig(connection.Named(url, "ezq-cli"))
		require.NoError(t, err, url)
		require.Equal(t, want, config.ConnConfig.RuntimeParams["application_name"], url)
		if password := config.ConnConfig.Password; password != "" {
			require.Contains(t, []string{"b#c", "a b"}, password)
		}
	}
	require.Equal(t, "postgres://ada:%zz@host", connection.Named("postgres://ada:%zz@host", "ezq-cli"), "the error is for the one who opens it")
	t.Setenv("PGAPPNAME", "night-shift")
	require.Equal(t, "postgres://ada@host/shop", connection.Named("postgres://ada@host/shop", "ezq-cli"))
}
