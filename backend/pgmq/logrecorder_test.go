package pgmq_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// confidential is in the payloads and the metadata of messages. What PostgreSQL says in
// [pgconn.PgError.Detail] may quote it, so it is looked for in what loggers write, and
// not in the whole tree of an error, as the password is.
const confidential = "c0nfid3ntial"

// logRecorder keeps what is logged, at any level, in each of the ways in which
// records are written.
type logRecorder struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *logRecorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(p)
}

func (r *logRecorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

func (r *logRecorder) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelDebug - 4} // Watermill's Trace
	return slog.New(slog.NewMultiHandler(slog.NewJSONHandler(r, options), slog.NewTextHandler(r, options), structureHandler{r}))
}

// requireLogged waits for what shows that a fault has come about.
func (r *logRecorder) requireLogged(t *testing.T, line string) {
	t.Helper()
	pgtest.Eventually(t, patience, "it is logged that "+line, func() bool { return strings.Contains(r.String(), line) })
}

// assertNoSecret reports what a record shows that it must not.
func (r *logRecorder) assertNoSecret(t *testing.T) {
	t.Helper()
	for line := range strings.SplitSeq(r.String(), "\n") {
		assert.NotContains(t, line, canary)
		assert.NotContains(t, line, confidential)
	}
}

// structureHandler writes values as loggers do that show what is in them.
type structureHandler struct{ recorder *logRecorder }

func (s structureHandler) Enabled(context.Context, slog.Level) bool { return true }
func (s structureHandler) WithGroup(string) slog.Handler            { return s }

func (s structureHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		s.show(a.Value.Any())
	}
	return s
}

func (s structureHandler) Handle(_ context.Context, record slog.Record) error {
	record.Attrs(func(a slog.Attr) bool {
		s.show(a.Value.Any())
		return true
	})
	return nil
}

func (s structureHandler) show(value any) {
	asJSON, _ := json.Marshal(value) //nolint:errchkjson // whatever it yields is what a log would show
	_, _ = fmt.Fprintf(s.recorder, "%+v %#v %s\n", value, value, asJSON)
	if err, ok := value.(error); ok {
		if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
			_, _ = fmt.Fprintln(s.recorder, connect.Config.Password)
		}
		for _, shown := range tree(err) {
			_, _ = fmt.Fprintln(s.recorder, strings.ReplaceAll(shown, confidential, "…"))
		}
	}
}

// tree returns how err, and everything that is in it, can be shown.
func tree(err error) []string {
	asJSON, _ := json.Marshal(err) //nolint:errchkjson // whatever it yields is what a log would show
	shown := []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), string(asJSON)}
	switch wrapper := err.(type) { //nolint:errorlint // the tree is walked by hand, to see all of it
	case interface{ Unwrap() error }:
		if inner := errors.Unwrap(err); inner != nil {
			shown = append(shown, tree(inner)...)
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wrapper.Unwrap() {
			shown = append(shown, tree(inner)...)
		}
	}
	return shown
}

// requireConfidential fails if err, or what is in it, shows the password, or if err
// shows what the message says.
func requireConfidential(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	for _, shown := range tree(err) {
		require.NotContains(t, shown, canary)
	}
	asJSON, failure := json.Marshal(err)
	require.NoError(t, failure)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", err, err, err, asJSON), confidential)
}
