package pgmq

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// openFailed returns what Open does where no host of the URL can be reached, without a network.
func openFailed(ctx context.Context, url string) error {
	config, err := pgconn.ParseConfig(url)
	if err == nil {
		config.LookupFunc = func(_ context.Context, host string) ([]string, error) {
			return nil, errors.New("lookup " + host + ": no such host")
		}
		_, err = pgconn.ConnectConfig(ctx, config)
	}
	return classify("open", "", err)
}

func requireNotShown(t *testing.T, password, url string, err error) {
	t.Helper()
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Error("failed", "error", err)
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", "error", err)
	texts := []string{string(asJSON), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, err), fmt.Sprintf(verb, struct{ err error }{err}))
	}
	for _, text := range texts {
		require.NotContains(t, text, password, url)
		require.NotContains(t, text, fmt.Sprintf("%x", password), url)
	}
}

func TestNoPasswordThatShouldHaveBeenEncodedIsInAnError(t *testing.T) {
	t.Parallel()
	around := []string{""}
	for _, a := range "@:/,#?%[]1b" {
		for _, b := range " @:/,1b" {
			around = append(around, strings.TrimSpace(string([]rune{a, b})))
		}
	}
	for _, before := range around {
		for _, after := range around {
			url := "postgres://app:" + before + "hunter2" + after + "@db/shop"
			requireNotShown(t, "hunter2", url, openFailed(t.Context(), url))
		}
	}
}

// FuzzNoErrorShowsAPassword has a password with anything before and after what is looked for.
// An = is left out: what is behind "?user=" is no password any more, by any reading.
func FuzzNoErrorShowsAPassword(f *testing.F) {
	for _, around := range [][2]string{{"", ""}, {"a@", ""}, {"@", ",b"}, {"@", ":1,b"}, {"@b,", "@"}, {"1/", "/x"}, {"%40", "%2f"}} {
		f.Add(around[0], around[1], "db:1", "shop")
	}
	f.Fuzz(func(t *testing.T, before, after, host, database string) {
		if strings.ContainsAny(before+after+host+database, "='\\ \t\n\r\f\v") || strings.Contains(before+after+host+database, "hunter") || strings.HasPrefix(host, "/") {
			t.Skip()
		}
		for _, url := range []string{"postgres://app:" + before + "hunter2" + after + "@" + host + "/" + database, "host=db user=app password='" + before + "hunter2" + after + "'"} {
			ended, stop := context.WithCancel(t.Context())
			stop() // where the host is an address, nothing is sent there
			requireNotShown(t, "hunter2", url, openFailed(ended, url))
		}
	})
}
