package sparse_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/sparse"
)

var failed = sparse.About{Text: "failed", Topic: "orders", Handler: "ship"}

func bubble(t *testing.T, f func(t *testing.T, logger *slog.Logger, log *bytes.Buffer)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f(t, sparse.New(slog.New(slog.NewTextHandler(&log, nil))), &log)
	})
}

func TestLog_ShowsFirstRecordsAndCountsOthers(t *testing.T) {
	bubble(t, func(t *testing.T, logger *slog.Logger, log *bytes.Buffer) {
		for range 60_000 {
			sparse.Log(t.Context(), logger.With("n", 1), slog.LevelWarn, failed, "id", "7")
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		require.Equal(t, 11, strings.Count(log.String(), "\n"))
		require.Equal(t, 10, strings.Count(log.String(), `msg=failed n=1 id=7`))
		require.Contains(t, log.String(), `level=WARN msg="failed: and more, which are left out here" n=1 topic=orders handler=ship messages=59990 lasted=1m0s`)
	})
}

func TestLog_ShowsElevenRecordsPerMinute(t *testing.T) {
	bubble(t, func(t *testing.T, logger *slog.Logger, log *bytes.Buffer) {
		for range 3600 {
			sparse.Log(t.Context(), logger, slog.LevelWarn, failed)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		require.InDelta(t, 11*60, strings.Count(log.String(), "\n"), 11)
	})
}

func TestLog_ShowsAllOfFewRecords(t *testing.T) {
	bubble(t, func(t *testing.T, logger *slog.Logger, log *bytes.Buffer) {
		for range 100 {
			sparse.Log(t.Context(), logger, slog.LevelWarn, failed)
			time.Sleep(7 * time.Second)
		}
		require.Equal(t, 100, strings.Count(log.String(), "\n"))
	})
}

func TestLog_ShowsRecordsAboutOtherSubjects(t *testing.T) {
	bubble(t, func(t *testing.T, logger *slog.Logger, log *bytes.Buffer) {
		for _, topic := range []string{"a", "b"} {
			for range 100 {
				sparse.Log(t.Context(), logger, slog.LevelWarn, sparse.About{Text: "failed", Topic: topic})
				logger.Info("another record")
				sparse.Log(t.Context(), logger, slog.LevelDebug, sparse.About{Text: "not enabled"})
			}
		}
		require.Equal(t, 20, strings.Count(log.String(), "failed"))
		require.Equal(t, 200, strings.Count(log.String(), "another record"))
	})
}

func TestFlush_ReportsOmittedRecords(t *testing.T) {
	bubble(t, func(t *testing.T, logger *slog.Logger, log *bytes.Buffer) {
		for range 15 {
			sparse.Log(t.Context(), logger, slog.LevelError, failed)
		}
		time.Sleep(time.Second)
		sparse.Flush(logger)
		require.Contains(t, log.String(), "level=ERROR")
		require.Contains(t, log.String(), "messages=5 lasted=1s")
		log.Reset()
		for range 15 {
			sparse.Log(t.Context(), logger, slog.LevelError, failed)
		}
		time.Sleep(time.Hour)
		require.Equal(t, 15, strings.Count(log.String(), "\n"), "nothing is left out that is not reported")
	})
}

func TestLog_ShowsAllOnPlainLogger(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for range 100 {
		sparse.Log(t.Context(), logger, slog.LevelError, failed)
	}
	sparse.Flush(logger)
	require.Equal(t, 100, strings.Count(log.String(), "\n"))
}
