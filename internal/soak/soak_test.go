package soak_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/cluster"
	"github.com/ezq-go/ezq/internal/faultproxy"
	"github.com/ezq-go/ezq/internal/ledger"
	"github.com/ezq-go/ezq/internal/pgtest"
)

var (
	duration = flag.Duration("soak.d", 0, "how long TestSoak lasts, without the restarts at its end; it is skipped if 0")
	seed     = flag.Uint64("soak.seed", 0, "of the schedule; 0: a random one")
	output   = flag.String("soak.json", "", "the file to write the result to")
)

// What must hold.
const (
	minFaults     = 50 // in two minutes
	minStored     = 30_000
	restarts      = 20
	maxShare      = 0.002 // of duplicates
	maxRecovery   = 2 * time.Second
	patience      = 30 * time.Second
	consumers     = 2
	soakIsSerious = 2 * time.Minute
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childVariable); url != "" {
		if err := consume(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// soak is one run.
type soak struct {
	*testing.T
	server    *cluster.Cluster
	proxy     *faultproxy.Proxy
	url       string // of the database, through the proxy
	dice      *rand.Rand
	children  int // started so far
	consumers []*child
	ledgers   map[string]*atomic.Pointer[ledger.Ledger] // by topic
	result    result
}

func (s *soak) ledger(topic string) *ledger.Ledger { return s.ledgers[topic].Load() }

func TestSoak(t *testing.T) {
	if *duration == 0 {
		t.Skip("it takes as long as it is told; run it with: make soak D=2m")
	}
	s := newSoak(t)
	pool := pgtest.Pool(t, s.server.URL())
	_, err := pool.Exec(t.Context(), "create table effects (id text not null)")
	require.NoError(t, err)
	goroutines := runtime.NumGoroutine()
	queue, err := pgmq.Open(t.Context(), s.url, pgmq.Config{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, queue.SubscribeInitialize(plain))
	require.NoError(t, queue.SubscribeInitialize(inTx))
	for range consumers {
		s.consumers = append(s.consumers, s.startChild())
	}

	stop := s.publish("faults", queue)
	s.suffer()
	stop()
	s.drain(pool)
	s.result.Faults.AtLeastOnce = s.ledger(plain).Report()
	s.result.Faults.ExactlyOnce = s.effects(pool)

	s.newLedgers()
	stop = s.publish("restarts", queue)
	for range restarts {
		s.replace(s.terminate)
		s.flows(time.Now())
	}
	stop()
	s.drain(pool)
	s.result.Restarts.Restarts = restarts
	s.result.Restarts.AtLeastOnce, s.result.Restarts.InTx = s.ledger(plain).Report(), s.ledger(inTx).Report()

	for _, c := range s.consumers {
		s.terminate(c)
	}
	require.NoError(t, queue.Close())
	s.leaks(pool, goroutines)
	s.result.sumUp()
	s.write()
	s.judge()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	s := &soak{T: t, server: cluster.Start(t), dice: rand.New(rand.NewPCG(*seed, 0)), ledgers: map[string]*atomic.Pointer[ledger.Ledger]{plain: {}, inTx: {}}}
	s.newLedgers()
	s.proxy = faultproxy.Start(t, s.server.Address())
	s.url = s.server.URLAt(s.proxy.Address())
	s.result = result{Seed: *seed, Duration: duration.String(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Schedule: []happening{}}
	t.Log("seed", *seed)
	return s
}

func (s *soak) newLedgers() {
	for _, current := range s.ledgers {
		current.Store(ledger.New())
	}
}

// suffer lets one fault happen after the other, each after messages flow again.
func (s *soak) suffer() {
	s.Helper()
	start, next := time.Now(), schedule(s.dice)
	s.flows(start)
	for n := 0; ; n++ {
		elapsed := time.Since(start)
		enough := *duration < soakIsSerious || n >= minFaults && s.ledger(plain).Stored()+s.ledger(inTx).Stored() >= minStored
		if elapsed >= *duration && (enough || elapsed > 2**duration) {
			s.result.Took = elapsed.Round(time.Second).String()
			return
		}
		s.result.Schedule = append(s.result.Schedule, s.endure(next(), start))
		pause(time.Duration(200+s.dice.IntN(400)) * time.Millisecond)
	}
}

// endure lets a fault happen, and waits until messages flow again.
func (s *soak) endure(f fault, start time.Time) happening {
	s.Helper()
	begun := time.Now()
	endPlain, endInTx := s.ledger(plain).Begin(f.name, ""), s.ledger(inTx).Begin(f.name, "")
	f.do(s)
	healed := time.Now()
	recovery, late := s.flows(healed)
	// A consumer notices that its hold was lost when that would have ended, 50 ms later, and
	// hands out until then what it had.
	const aftermath = 100 * time.Millisecond
	pause(aftermath)
	endPlain()
	endInTx()
	return happening{
		Fault: f.name, At: seconds(begun.Sub(start)), Lasted: seconds(healed.Sub(begun)),
		Recovery: seconds(recovery), Late: seconds(late), recovery: recovery, late: late,
	}
}

// flows waits until messages of both topics have been delivered after moment. It returns how long
// that took, and by how much the machine itself was late meanwhile.
func (s *soak) flows(moment time.Time) (took, late time.Duration) {
	s.Helper()
	const step = 5 * time.Millisecond
	for last := time.Now(); !s.ledger(plain).DeliveredSince(moment) || !s.ledger(inTx).DeliveredSince(moment); {
		pause(step)
		now := time.Now()
		late += max(0, now.Sub(last)-2*step)
		last = now
		if now.Sub(moment) > patience {
			s.Fatalf("no messages for %v", patience)
		}
	}
	return time.Since(moment), late
}

// drain waits until both queues are empty.
func (s *soak) drain(pool *pgxpool.Pool) {
	s.Helper()
	pgtest.Eventually(s, patience, "the queues are empty", func() bool {
		var left int
		err := pool.QueryRow(s.Context(), "select (select count(*) from pgmq.q_plain) + (select count(*) from pgmq.q_in_tx)").Scan(&left)
		return err == nil && left == 0
	})
}

// leaks counts what is left when everything is closed.
func (s *soak) leaks(pool *pgxpool.Pool, goroutines int) {
	s.Helper()
	const theirs = "select count(*) from pg_stat_activity where datname = 'ezq' and application_name <> 'pgtest' and pid <> pg_backend_pid() and query not like '%effects%'"
	count := func() {
		require.NoError(s, pool.QueryRow(context.Background(), theirs).Scan(&s.result.Left.Connections))
		s.result.Left.Goroutines = max(0, runtime.NumGoroutine()-goroutines)
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); pause(10 * time.Millisecond) {
		if count(); s.result.Left.Connections+s.result.Left.Goroutines == 0 {
			return
		}
	}
}

func (s *soak) write() {
	s.Helper()
	text, err := json.MarshalIndent(s.result, "", "\t")
	require.NoError(s, err)
	if *output != "" {
		require.NoError(s, os.WriteFile(*output, append(text, '\n'), 0o644))
	}
}
