package pgmq_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// childVariable makes the test binary a consumer in a process of its own, which
// can be stopped and killed. Its value is the URL of the database.
const childVariable = "EZQ_TEST_CHILD"

// child is such a process.
type child struct {
	*exec.Cmd
	lines chan string // what it writes, a line for each delivery before its ack
}

// startChild starts the test of that name as a child.
func startChild(t *testing.T, test, database string, environment ...string) *child {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	c := &child{
		Cmd:   exec.Command(self, "-test.run", "^"+test+"$", "-test.timeout", "60s"),
		lines: make(chan string, 10_000),
	}
	c.Env = append(append(os.Environ(), childVariable+"="+database), environment...)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()
	})
	go c.read(out)
	return c
}

func (c *child) read(out io.Reader) {
	defer close(c.lines)
	for scanner := bufio.NewScanner(out); scanner.Scan(); {
		if id, ok := strings.CutPrefix(scanner.Text(), "delivered "); ok {
			c.lines <- id
		}
	}
}

// next returns the next delivery.
func (c *child) next(t *testing.T) string {
	t.Helper()
	select {
	case id, ok := <-c.lines:
		require.True(t, ok, "the child has ended")
		return id
	case <-time.After(patience):
		require.Fail(t, "the child got nothing")
		return ""
	}
}

func (c *child) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	require.NoError(t, c.Process.Signal(signal))
}

// ended waits until the child is gone.
func (c *child) ended(t *testing.T) (delivered []string) {
	t.Helper()
	for id := range c.lines {
		delivered = append(delivered, id)
	}
	_ = c.Wait()
	return delivered
}

// delivered tells the parent. Nothing is buffered, so that SIGKILL hides nothing.
func delivered(id string) { _, _ = fmt.Fprintln(os.Stdout, "delivered "+id) }

func childDatabase(t *testing.T) string {
	t.Helper()
	database := os.Getenv(childVariable)
	if database == "" {
		t.Skip("this is the body of a child process of other tests")
	}
	return database
}

var shortestLease = pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: time.Second, MaxInFlight: 20}}

// TestChild_SettlesMessage takes one message and settles it as it is told on its way
// back from a stop.
func TestChild_SettlesMessage(t *testing.T) {
	client := openAt(t, childDatabase(t), shortestLease)
	msg := receive(t, subscribe(t, client))
	woken := make(chan os.Signal, 1)
	signal.Notify(woken, syscall.SIGCONT)
	delivered(msg.UUID)
	<-woken
	switch os.Getenv("EZQ_TEST_SETTLE") {
	case "ack":
		msg.Ack()
	case "nack":
		msg.Nack()
	case "dead letter":
		backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: "dead"})
	case "extend": // as all leases are, by themselves
		<-msg.Context().Done()
		delivered(fmt.Sprint(context.Cause(msg.Context())))
	}
	require.NoError(t, client.Close())
	delivered("closed")
}

func TestLease_OfStoppedProcessChangesNothing(t *testing.T) {
	t.Parallel()
	for _, settle := range []string{"ack", "nack", "dead letter", "extend"} {
		t.Run("the "+settle+" of a stopped process", func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
			publish(t, owner, "a")
			require.NoError(t, owner.SubscribeInitialize("dead"))
			zombie := startChild(t, "TestChild_SettlesMessage", database, "EZQ_TEST_SETTLE="+settle)
			require.Equal(t, "a", zombie.next(t))
			zombie.signal(t, syscall.SIGSTOP)

			msg := receive(t, subscribe(t, owner))
			require.Equal(t, 2, delivery(msg).Number)
			row := func() string { return get[string](t, pool, "select m::text from pgmq.q_t m") }
			before := row()
			zombie.signal(t, syscall.SIGCONT)
			if settle == "extend" {
				require.Equal(t, backend.ErrLeaseLost.Error(), zombie.next(t))
			}
			require.Equal(t, "closed", zombie.next(t), "which stores what is settled")
			require.Equal(t, before, row(), "the owner's message")
			msg.Ack()
			requireCount(t, pool, "pgmq.q_t", 0)
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_dead"))
		})
	}
}

// TestChild_HandlesMessages handles messages with a router until SIGTERM.
func TestChild_HandlesMessages(t *testing.T) {
	database := childDatabase(t)
	ctx, stop := signal.NotifyContext(t.Context(), syscall.SIGTERM)
	defer stop()
	client := openAt(t, database, shortestLease)
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 20, Logger: slog.New(slog.DiscardHandler)})
	ezq.Handle(router, func(_ context.Context, e userCreated) error {
		delivered(e.Email)
		wait := time.NewTimer(5 * time.Millisecond)
		<-wait.C
		return nil
	})
	require.NoError(t, router.Run(ctx))
}

func TestLease_RedeliversMessagesOfKilledConsumer(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	pool, owner := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{Subscriber: pgmq.SubscriberConfig{MaxInFlight: 20}})
	publish(t, owner, "a")
	killed := startChild(t, "TestChild_SettlesMessage", database)
	require.Equal(t, "a", killed.next(t))
	killed.signal(t, syscall.SIGKILL)
	start := time.Now()
	msg := receive(t, subscribe(t, owner))
	t.Log("it came back after", time.Since(start))
	require.Equal(t, "a", msg.UUID)
	require.Less(t, time.Since(start), time.Second+recovery, "the lease is a second")
	msg.Ack()
	requireCount(t, pool, "pgmq.q_t", 0)
}

func TestConsumers_TerminatedUnderLoadLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	const restarts = 4
	total := requireAllHandled(t, syscall.SIGTERM, restarts)
	require.Zero(t, total, "handled more than once")
}

func TestConsumers_KilledUnderLoadLoseNothing(t *testing.T) {
	t.Parallel()
	const restarts, inFlight = 3, 20
	total := requireAllHandled(t, syscall.SIGKILL, restarts)
	// In flight, or handled while the acks before them were being stored.
	require.LessOrEqual(t, total, restarts*inFlight*5, "handled more than once")
}

// requireAllHandled publishes events, ends the process that handles them again
// and again, and returns how many deliveries there were too many.
func requireAllHandled(t *testing.T, end os.Signal, restarts int) (duplicates int) {
	t.Helper()
	const events = 2000
	database := pgtest.Database(t)
	pool, client := pgtest.Pool(t, database), openAt(t, database, pgmq.Config{})
	var all []userCreated
	for n := range events {
		all = append(all, userCreated{Email: fmt.Sprint(n)})
	}
	require.NoError(t, ezq.PublishBatch(t.Context(), client, all))
	handled := map[string]int{}
	for n := 0; n <= restarts; n++ {
		consumer := startChild(t, "TestChild_HandlesMessages", database)
		for range events / (restarts + 2) {
			handled[consumer.next(t)]++
		}
		if n == restarts {
			requireCount(t, pool, "pgmq.q_ezq", 0)
			end = syscall.SIGTERM // for the last one has done its work
		}
		consumer.signal(t, end)
		for _, id := range consumer.ended(t) {
			handled[id]++
		}
		if end == syscall.SIGTERM {
			require.True(t, consumer.ProcessState.Success(), "Run returns nil after the signal")
			require.Zero(t, get[int](t, pool, "select count(*) from pgmq.q_ezq where vt > clock_timestamp()"), "everything is settled")
		}
	}
	require.Len(t, handled, events)
	for _, n := range handled {
		duplicates += n - 1
	}
	t.Logf("%d events, %d ends, %d duplicates", events, restarts, duplicates)
	return duplicates
}
