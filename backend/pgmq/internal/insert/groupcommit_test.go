package insert

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/bounded"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// recordingWriter is a writer that takes a second for each statement.
type recordingWriter struct {
	mu         sync.Mutex
	statements [][]string
	fail       func(messages []string) error
}

func (r *recordingWriter) write(ctx context.Context, batch Batch) error {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return &SendError{context.Cause(ctx)}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = append(r.statements, batch.Messages)
	if r.fail != nil {
		if err := r.fail(batch.Messages); err != nil {
			return err
		}
	}
	return nil
}

func oneRow(message string) Batch {
	return Batch{
		Messages: []string{message}, Headers: []string{""}, Delays: []int64{0}, Times: []*time.Time{nil},
		size: batchSize{messages: 1, bytes: len(message)},
	}
}

func TestGroupCommit_SharesStatementAmongPublishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log recordingWriter
		commits := NewGroupCommit()
		var calls sync.WaitGroup
		start := time.Now()
		calls.Go(func() { _ = commits.Write(t.Context(), "q", oneRow("first"), log.write) })
		synctest.Wait()
		for range 99 {
			calls.Go(func() { _ = commits.Write(t.Context(), "q", oneRow("other"), log.write) })
		}
		calls.Wait()
		require.Len(t, log.statements, 2)
		require.Equal(t, []string{"first"}, log.statements[0], "the first does not wait for others")
		require.Len(t, log.statements[1], 99)
		require.Equal(t, 2*time.Second, time.Since(start))
		require.Equal(t, topicQueue{waiting: []*request{}}, *commits.topics["q"])
	})
}

func TestGroupCommit_RunsQueuesIndependently(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log recordingWriter
		commits := NewGroupCommit()
		var calls sync.WaitGroup
		start := time.Now()
		for _, queue := range []string{"a", "b", "c"} {
			calls.Go(func() { _ = commits.Write(t.Context(), queue, oneRow(queue), log.write) })
		}
		calls.Wait()
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestGroupCommit_RunsLargePublishesIndependently(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name               string
		size, mostTogether int
		longest            time.Duration
	}{
		{"20 KiB wait as long as they make a statement small", 20 << 10, 3, 2 * time.Second},
		{"more than a statement carries for several never waits", maxSharedBytes + 1, 1, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log recordingWriter
				commits := NewGroupCommit()
				var calls sync.WaitGroup
				start := time.Now()
				for range 32 {
					calls.Go(func() { _ = commits.Write(t.Context(), "q", oneRow(strings.Repeat("x", c.size)), log.write) })
					synctest.Wait()
				}
				calls.Wait()
				require.Equal(t, c.longest, time.Since(start))
				written := 0
				for _, statement := range log.statements {
					require.LessOrEqual(t, len(statement), c.mostTogether)
					written += len(statement)
				}
				require.Equal(t, 32, written)
				require.Equal(t, topicQueue{waiting: commits.topics["q"].waiting[:0]}, *commits.topics["q"])
			})
		})
	}
}

func TestGroupCommit_IsolatesRefusedMessage(t *testing.T) {
	t.Parallel()
	byPostgreSQL := &pgconn.PgError{Severity: "ERROR", Code: "22P05"}
	for name, refused := range map[string]error{
		"by PostgreSQL":                     &SendError{byPostgreSQL},
		"by PostgreSQL, and is rolled back": byPostgreSQL,
		"before it is sent":                 &fault.Error{Kind: fault.ErrInvalidMessage},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := recordingWriter{fail: func(messages []string) error {
					if slices.Contains(messages, "bad") {
						return refused
					}
					return nil
				}}
				commits := NewGroupCommit()
				var calls sync.WaitGroup
				var stored, failed atomic.Int32
				for _, message := range []string{"first", "good", "bad", "good"} {
					calls.Go(func() {
						if err := commits.Write(t.Context(), "q", oneRow(message), log.write); errors.Is(err, refused) {
							failed.Add(1)
						} else {
							stored.Add(1)
						}
					})
					synctest.Wait()
				}
				calls.Wait()
				require.EqualValues(t, 3, stored.Load())
				require.EqualValues(t, 1, failed.Load())
			})
		})
	}
}

func TestGroupCommit_LostAnswerConcernsWholeStatement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("connection reset")
		log := recordingWriter{fail: func([]string) error { return &SendError{lost} }}
		commits := NewGroupCommit()
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() {
				if err := commits.Write(t.Context(), "q", oneRow("m"), log.write); !errors.Is(err, lost) {
					t.Error("an unknown outcome was reported as", err)
				}
			})
			synctest.Wait()
		}
		calls.Wait()
		require.Len(t, log.statements, 2, "and nothing is sent again")
	})
}

func TestGroupCommit_ReturnsWhenContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log recordingWriter
		commits := NewGroupCommit()
		var calls sync.WaitGroup
		calls.Go(func() { _ = commits.Write(t.Context(), "q", oneRow("first"), log.write) })
		synctest.Wait()

		waiting, stop := context.WithCancel(t.Context())
		calls.Go(func() {
			var sent *SendError
			err := commits.Write(waiting, "q", oneRow("waiting"), log.write)
			if !errors.Is(err, context.Canceled) || errors.As(err, &sent) {
				t.Error("it was never sent, but the error is", err)
			}
		})
		synctest.Wait()
		stop()

		written, late := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer late()
		calls.Go(func() { _ = commits.Write(t.Context(), "q", oneRow("leader"), log.write) })
		synctest.Wait()
		calls.Go(func() {
			var sent *SendError
			err := commits.Write(written, "q", oneRow("written"), log.write)
			if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &sent) {
				t.Error("the leader is writing it, but the error is", err)
			}
		})
		calls.Wait()
		require.Equal(t, [][]string{{"first"}, {"leader", "written"}}, log.statements)
	})
}

// A program may publish to any number of topics that come and go.
func TestGroupCommit_BoundsMemoryOfTopics(t *testing.T) {
	t.Parallel()
	commits := NewGroupCommit()
	stored := func(context.Context, Batch) error { return nil }
	for n := range 2 * bounded.Max {
		require.NoError(t, commits.Write(t.Context(), strconv.Itoa(n), oneRow("m"), stored))
	}
	require.LessOrEqual(t, len(commits.topics), bounded.Max)
}
