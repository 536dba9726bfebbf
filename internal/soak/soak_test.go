package soak_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"sync"
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
	duration = flag.Duration("soak.d", 0, "how long TestSoak_KeepsPromisesUnderFaults lasts, without the restarts at its end; it is skipped if 0")
	seed     = flag.Uint64("soak.seed", 0, "of the schedule; 0: a random one")
	output   = flag.String("soak.json", "", "the file to write the result to")
	acting   = flag.String("soak.storm", ".", "the acts of the storm whose names match this regular expression; ^$: none")
	only     *regexp.Regexp
)

// What must hold.
const (
	minFaults     = 40 // in two minutes
	minStored     = 30_000
	restarts      = 20
	maxOfOneFault = 100 // duplicates, of a fault of the server or the network, which all consumers have
	maxOfConsumer = 50  // and of a fault of one consumer: what it was handling, 20, and had acked in its last 50 ms
	maxRecovery   = 2 * time.Second
	patience      = 30 * time.Second
	consumers     = 3 // of which the last is far
	roundTrip     = 30 * time.Millisecond
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
	server            *cluster.Cluster
	proxy, farProxy   *faultproxy.Proxy // the far one leads to the other
	pool              *pgxpool.Pool     // of the superuser, past the proxies
	client, farClient *pgmq.Client
	outbox            *pgmq.Client  // for transactions of
	application       *pgxpool.Pool // which is the publisher's own
	leasesSafe        atomic.Bool   // nothing goes wrong that could make a consumer lose a lease
	rng               *rand.Rand
	storm             *storm
	children          int // started so far
	consumers         []*child
	ledgers           map[string]*atomic.Pointer[ledger.Ledger] // by topic
	processors        processors
	result            result
}

func (s *soak) ledger(topic string) *ledger.Ledger { return s.ledgers[topic].Load() }

func TestSoak_KeepsPromisesUnderFaults(t *testing.T) {
	if *duration == 0 {
		t.Skip("it takes as long as it is told; run it with: make soak D=2m")
	}
	s := newSoak(t)
	goroutines := runtime.NumGoroutine()
	s.open()
	endWatch := s.watchProcessors()
	for i := range consumers {
		s.consumers = append(s.consumers, s.startChild(i == consumers-1))
	}
	s.phase("faults", func() {
		end := s.storm.runInBackground()
		defer end()
		s.runFaults()
	})
	s.result.Faults.deliveryReport = s.reportDeliveries()

	s.phase("storm", func() {
		defer s.watch()()
		s.result.Storm.Acts = s.storm.runAlone(*duration / 4)
	})
	s.result.Storm.deliveryReport = s.reportDeliveries()

	s.phase("restarts", func() {
		for range restarts {
			s.replace(s.terminate)
			s.awaitFlow(time.Now(), plain, inTx)
		}
	})
	s.result.Restarts.Restarts, s.result.Restarts.deliveryReport = restarts, s.reportDeliveries()

	for _, c := range s.consumers {
		s.terminate(c)
	}
	endWatch()
	require.NoError(t, errors.Join(s.client.Close(), s.farClient.Close(), s.outbox.Close()))
	s.application.Close()
	s.countLeaks(goroutines)
	s.result.sumUp(s)
	s.write()
	s.verify()
}

// role is what the queue is used as. The storm is a superuser.
const role = "soak"

func newSoak(t *testing.T) *soak {
	t.Helper()
	if *seed == 0 {
		*seed = rand.Uint64N(1_000_000) + 1
	}
	only = regexp.MustCompile(*acting)
	s := &soak{T: t, server: cluster.Start(t), rng: rand.New(rand.NewPCG(*seed, 0)), ledgers: map[string]*atomic.Pointer[ledger.Ledger]{}}
	for topic := range loads() {
		s.ledgers[topic] = &atomic.Pointer[ledger.Ledger]{}
		s.ledgers[topic].Store(ledger.New())
	}
	s.server.Execute("create role "+role+" login password '"+role+"'",
		"grant usage, create on schema pgmq to "+role, "grant all on all tables in schema pgmq to "+role,
		"alter default privileges in schema pgmq grant all on tables to "+role,
		"create table effects (id text not null)", "grant all on effects to "+role)
	s.pool = pgtest.Pool(t, s.server.URL())
	s.proxy = faultproxy.Start(t, s.server.Address())
	s.farProxy = faultproxy.Start(t, s.proxy.Address())
	s.farProxy.Latency(roundTrip / 2)
	s.storm = newStorm(s)
	s.result = result{Seed: *seed, Duration: duration.String(), Go: runtime.Version(), CPUs: runtime.NumCPU(), Schedule: []incident{}}
	t.Log("seed", *seed)
	return s
}

// url is where the queue is used, through a proxy.
func (s *soak) url(through *faultproxy.Proxy) string {
	u, err := url.Parse(s.server.URLAt(through.Address()))
	require.NoError(s, err)
	u.User = url.UserPassword(role, role)
	return u.String()
}

// open opens what publishes, and creates the queues. That of failing is one from before PGMQ 1.10.
func (s *soak) open() {
	s.Helper()
	for to, proxy := range map[**pgmq.Client]*faultproxy.Proxy{&s.client: s.proxy, &s.farClient: s.farProxy, &s.outbox: s.proxy} {
		client, err := pgmq.Open(s.Context(), s.url(proxy), &pgmq.Config{Logger: slog.New(slog.DiscardHandler)})
		require.NoError(s, err)
		*to = client
	}
	var err error
	s.application, err = pgxpool.New(s.Context(), s.url(s.proxy))
	require.NoError(s, err)
	for _, topic := range append(slices.Collect(maps.Keys(loads())), deadLetters) {
		require.NoError(s, s.client.SubscribeInitialize(topic))
	}
	s.server.Execute("alter table pgmq.q_"+failing+" drop column last_read_at", "alter table pgmq.a_"+failing+" drop column last_read_at")
}

// phase publishes to all topics while do is done, with ledgers that are new, until all is handled.
func (s *soak) phase(name string, do func()) {
	s.Helper()
	for _, current := range s.ledgers {
		current.Store(ledger.New())
	}
	_, err := s.pool.Exec(s.Context(), "truncate effects, pgmq.q_"+deadLetters)
	require.NoError(s, err)
	stop := s.publish(name)
	do()
	stop()
	s.drain()
}

// runFaults lets one fault happen after the other, each after messages flow again.
func (s *soak) runFaults() {
	s.Helper()
	start, next := time.Now(), schedule(s.rng)
	s.awaitFlow(start, plain, inTx)
	for n := 0; ; n++ {
		elapsed := time.Since(start)
		enough := *duration < soakIsSerious || n >= minFaults && s.ledger(plain).Stored()+s.ledger(inTx).Stored() >= minStored
		if elapsed >= *duration*3/4 && (enough || elapsed > 2**duration) {
			s.result.Took = elapsed.Round(time.Second).String()
			return
		}
		s.result.Schedule = append(s.result.Schedule, s.injectFault(next(), start))
		pause(time.Duration(200+s.rng.IntN(400)) * time.Millisecond)
	}
}

// injectFault lets a fault happen, and waits until messages flow again.
func (s *soak) injectFault(f fault, start time.Time) incident {
	s.Helper()
	begun := time.Now()
	var ends []func()
	for topic := range s.ledgers {
		ends = append(ends, s.ledger(topic).Begin(f.name, ""))
	}
	if f.crash {
		ends = append(ends, s.ledger(dropped).Removing(), s.ledger(outbox).Removing()) // they may be unlogged
	}
	f.do(s)
	healed, beside := time.Now(), s.storm.currentAct()
	recovery, late := s.awaitFlow(healed, plain, inTx)
	// A consumer notices that its lock was lost when that would have ended, 50 ms later, and
	// hands out until then what it had.
	const aftermath = 100 * time.Millisecond
	pause(aftermath)
	for _, end := range ends {
		end()
	}
	return incident{
		What: f.name, Beside: beside, At: seconds(begun.Sub(start)), Lasted: seconds(healed.Sub(begun)),
		Recovery: seconds(recovery), Late: seconds(late), recovery: recovery, late: late,
	}
}

// awaitFlow waits until messages of these topics have been delivered after moment. It returns how long
// that took, and by how much the machine itself was late meanwhile: it did not run when it should
// have, or had so little time for each that everything took longer. The latter is measured where it
// takes so long that it matters, because that costs time, too.
func (s *soak) awaitFlow(moment time.Time, topics ...string) (took, late time.Duration) {
	s.Helper()
	const step = 5 * time.Millisecond
	silent := func(topic string) bool { return !s.ledger(topic).DeliveredSince(moment) }
	var machine *busy
	for last := time.Now(); slices.ContainsFunc(topics, silent); {
		pause(step)
		now := time.Now()
		late += max(0, now.Sub(last)-2*step)
		last = now
		if machine == nil && now.Sub(moment) > maxRecovery/2 {
			machine = s.occupy()
			defer machine.end()
		}
		if now.Sub(moment) > patience {
			s.Fatalf("no messages for %v, of a topic among %v", patience, topics)
		}
	}
	took = time.Since(moment)
	if machine != nil {
		late = max(late, time.Duration(float64(took)*(1-machine.share())))
	}
	return took, late
}

// watch is for a time in which no consumer has a reason to lose a lease. It looks at the server again
// and again, and where that takes so long that a lease could run out, it is the machine that was late.
func (s *soak) watch() (end func()) {
	ctx, cancel := context.WithCancel(s.Context())
	var running sync.WaitGroup
	s.leasesSafe.Store(true)
	running.Go(func() {
		for last := time.Now(); ctx.Err() == nil; last = time.Now() {
			pause(50 * time.Millisecond)
			_, _ = s.pool.Exec(ctx, "select 1")
			if now := time.Now(); now.Sub(last) > lease/3 {
				s.noteStandstill(last, now)
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
		s.leasesSafe.Store(false)
	}
}

// drain waits until all queues are empty.
func (s *soak) drain() {
	s.Helper()
	for topic := range s.ledgers {
		left := 0
		pgtest.Eventually(s, patience, "the queue of "+topic+" is empty", func() bool {
			err := s.pool.QueryRow(s.Context(), "select count(*) from pgmq.q_"+topic).Scan(&left)
			return err == nil && left == 0
		})
	}
}

// countLeaks counts what is left when everything is closed.
func (s *soak) countLeaks(goroutines int) {
	s.Helper()
	const theirs = "select count(*) from pg_stat_activity where datname = 'ezq' and usename = '" + role + "'"
	count := func() {
		require.NoError(s, s.pool.QueryRow(context.Background(), theirs).Scan(&s.result.Left.Connections))
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
