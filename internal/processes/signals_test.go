package processes_test

import (
	"fmt"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

const hour = time.Hour

// begin returns a database with jobs in its queue, and what looks at it and publishes there.
func begin(t *testing.T, jobs ...string) (database string, pool *pgxpool.Pool, client *pgmq.Client) {
	t.Helper()
	t.Parallel()
	database = pgtest.Database(t)
	client, err := pgmq.Open(t.Context(), database, &pgmq.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, client.Close()) })
	for _, does := range jobs {
		require.NoError(t, ezq.Publish(t.Context(), client, job{does}))
	}
	return database, pgtest.Pool(t, database), client
}

// requireFree requires that so many messages are free for other consumers, that none is not, and
// that none has failed.
func requireFree(t *testing.T, pool *pgxpool.Pool, want int) {
	t.Helper()
	var free, others, failed int
	require.NoError(t, pool.QueryRow(t.Context(), `select count(*) filter (where vt <= clock_timestamp()),
		count(*) filter (where vt > clock_timestamp()), count(*) filter (where (headers->>'ezq_failures')::int > 0) from pgmq.q_ezq`).
		Scan(&free, &others, &failed))
	require.Equal(t, []int{want, 0, 0}, []int{free, others, failed}, "free, leased or waiting, failed")
}

func TestSignal_LetsHandlersFinishAndReleasesRest(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			database, pool, _ := begin(t, finishes, succeeds, succeeds, succeeds, succeeds)
			c := start(t, "service", service{Database: database, Concurrency: 1, Lease: hour}, nil)
			c.requireLine(t, "begun finishes")
			c.signal(t, signal)
			c.requireLine(t, "finished")
			require.Equal(t, 0, c.end(t), &c.errors)
			requireFree(t, pool, 4)
			var reads int
			require.NoError(t, pool.QueryRow(t.Context(), "select sum(read_ct) from pgmq.q_ezq").Scan(&reads))
			require.Zero(t, reads, "what was fetched and not begun was not even delivered")
		})
	}
}

func TestDrainTimeout_InterruptsHandlerAndFreesEvent(t *testing.T) {
	database, pool, _ := begin(t, obeys)
	c := start(t, "service", service{Database: database, DrainTimeout: 200 * time.Millisecond, Lease: hour}, nil)
	c.requireLine(t, "begun obeys")
	c.signal(t, syscall.SIGTERM)
	c.requireLine(t, "interrupted: "+ezq.ErrInterrupted.Error())
	require.Equal(t, 1, c.end(t))
	require.Equal(t, ezq.ErrDrainTimeout.Error()+"\n", c.errors.String())
	requireFree(t, pool, 1)
}

func TestDrainTimeout_NamesHangingHandlerAndKeepsLease(t *testing.T) {
	database, pool, _ := begin(t, hangs)
	c := start(t, "service", service{Database: database, DrainTimeout: 100 * time.Millisecond, Lease: hour}, nil)
	c.requireLine(t, "begun hangs")
	c.signal(t, syscall.SIGTERM)
	require.Equal(t, 1, c.end(t))
	require.Regexp(t, `^ezq: handlers did not finish in time; still running: job .* on "ezq"\n$`, c.errors.String())
	var leased int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from pgmq.q_ezq where vt > clock_timestamp() + interval '50 minutes'").Scan(&leased))
	require.Equal(t, 1, leased, "no other process may run what still runs")
}

func TestSignal_SecondEndsProcessAtOnce(t *testing.T) {
	database, _, client := begin(t, hangs)
	c := start(t, "first", service{Database: database, DrainTimeout: hour, Lease: time.Second}, nil)
	c.requireLine(t, "begun hangs")
	c.signal(t, os.Interrupt)
	c.requireLine(t, "stopping")
	go func() { // users insist; the first signal may still be at work
		for c.Process.Signal(os.Interrupt) == nil {
			<-time.After(50 * time.Millisecond)
		}
	}()
	require.Equal(t, -1, c.end(t))
	requireRedelivery(t, database, client)
}

func TestLease_RedeliversEventsOfKilledProcess(t *testing.T) {
	database, _, client := begin(t, hangs)
	c := start(t, "first", service{Database: database, Lease: time.Second}, nil)
	c.requireLine(t, "begun hangs")
	c.signal(t, syscall.SIGKILL)
	require.Equal(t, -1, c.end(t))
	requireRedelivery(t, database, client)
}

// requireRedelivery requires that another process gets what one has left behind, whose handler
// then hangs again, and that it still stops.
func requireRedelivery(t *testing.T, database string, client *pgmq.Client) {
	t.Helper()
	c := start(t, "second", service{Database: database, DrainTimeout: 100 * time.Millisecond, Lease: hour}, nil)
	c.requireLine(t, "begun hangs")
	require.NoError(t, ezq.Publish(t.Context(), client, job{succeeds}))
	c.requireLine(t, "delivery 1 failures 0")
	c.signal(t, syscall.SIGTERM)
	require.Equal(t, 1, c.end(t))
}

// No process has handled it, and none has failed: all were gone before that.
func TestPoison_TakesEventThatCrashesProcesses(t *testing.T) {
	database, pool, client := begin(t, crashes)
	s := service{Database: database, Concurrency: 1, Lease: time.Second, MaxDeliveries: 2}
	for i := range 2 {
		c := start(t, fmt.Sprint("service ", i+1), s, nil)
		c.requireLine(t, "begun crashes")
		require.Equal(t, 3, c.end(t))
	}
	c := start(t, "service 3", s, nil)
	pgtest.Eventually(t, patience, "the event is given up", func() bool {
		var dead int
		err := pool.QueryRow(t.Context(), `select count(*) from pgmq.q_ezq_dead
			where headers->>'reason_poisoned' like '%2 deliveries without any outcome'`).Scan(&dead)
		return err == nil && dead == 1
	})
	require.NoError(t, ezq.Publish(t.Context(), client, ezq.EndEvent{}))
	require.Equal(t, 0, c.end(t))
	requireFree(t, pool, 0)
}

// A message that is only locked when its process dies was not counted. PostgreSQL notes that it
// was locked, so that the next process leases it before it handles it, whichever that is.
func TestLock_LeavesOneCrashUncounted(t *testing.T) {
	const backlog, maxDeliveries = 300, 2
	for name, busy := range map[string]int{"one process with a backlog": 1, "several processes": 3} {
		t.Run(name, func(t *testing.T) {
			database, pool, client := begin(t)
			handled := func() bool {
				var left int
				err := pool.QueryRow(t.Context(), "select count(*) from pgmq.q_ezq").Scan(&left)
				return err == nil && left == 0
			}
			ended := make(chan *child, busy)
			run := func(name string) {
				s := service{Database: database, Lease: time.Second, MaxDeliveries: maxDeliveries}
				c := start(t, name, s, nil)
				go func() { c.reading.Wait(); ended <- c }()
			}
			publish := func(n int, does string) {
				for range n {
					require.NoError(t, ezq.Publish(t.Context(), client, job{does}))
				}
			}
			publish(backlog, succeeds)
			if busy == 1 {
				publish(1, crashes)
			}
			for i := range busy {
				run(fmt.Sprint("busy ", i+1))
			}
			if busy > 1 {
				pgtest.Eventually(t, patience, "everything is handled", handled)
				publish(1, crashes)
			}
			crashed := 0
			pgtest.Eventually(t, patience, "the event is given up", func() bool {
				select {
				case c := <-ended:
					require.Equal(t, 3, c.end(t))
					crashed++
					run(fmt.Sprint("again ", crashed))
				default:
				}
				return handled()
			})
			require.GreaterOrEqual(t, crashed, maxDeliveries)
			require.LessOrEqual(t, crashed, 1+maxDeliveries)
			for range busy {
				require.NoError(t, ezq.Publish(t.Context(), client, ezq.EndEvent{}))
				require.Equal(t, 0, (<-ended).end(t))
			}
		})
	}
}

func TestControlEvent_StopsExactlyOneProcess(t *testing.T) {
	for _, test := range []struct {
		event any
		code  int
		want  string
	}{
		{ezq.EndEvent{}, 0, ""},
		{ezq.InterruptEvent{}, 1, ezq.ErrInterrupted.Error() + "\n"},
	} {
		t.Run(fmt.Sprintf("%T", test.event), func(t *testing.T) {
			database, pool, client := begin(t)
			ended := make(chan *child)
			for i := range 2 {
				c := start(t, fmt.Sprint("service ", i+1), service{Database: database, Lease: hour}, nil)
				go func() { c.reading.Wait(); ended <- c }()
			}
			for range 2 {
				require.NoError(t, ezq.Publish(t.Context(), client, test.event))
				var c *child
				select {
				case c = <-ended:
				case <-time.After(patience):
					t.Fatal("no process ends")
				}
				require.Equal(t, test.code, c.end(t), &c.errors)
				require.Equal(t, test.want, c.errors.String())
			}
			requireFree(t, pool, 0)
		})
	}
}
