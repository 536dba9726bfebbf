package processes_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/ledger"
)

var soakEvents = flag.Int("events", 3000, "how many events TestServices_HandleOrDeadLetterEveryEvent publishes")

const (
	soakTopic = "orders"
	consumers = 3
	attempts  = 3 // of the services' Retry
)

// order is an event of the soak. One of a hundred fails, in one of four ways.
type order struct{ ID int }

func (o order) fails() bool { return o.ID%100 == 42 }

// failures is how often o fails before it is a dead letter, or 0 if it is handled in the end.
func (o order) failures() int {
	switch {
	case !o.fails(), o.failureMode() == 3:
		return 0
	case o.failureMode() == 0:
		return 1
	}
	return attempts
}

func (o order) failureMode() int { return o.ID / 100 % 4 }

var errDeclined = errors.New("declined")

// handle tells of each delivery before its outcome.
func handle(ctx context.Context, e order) error {
	printLine("delivered", e.ID)
	if !e.fails() || e.failureMode() == 3 && ezq.MetaFromContext(ctx).Failures > 0 {
		printLine("succeeded", e.ID)
		return nil
	}
	printLine("failed", e.ID)
	switch e.failureMode() {
	case 0:
		return ezq.Permanent(errDeclined)
	case 1:
		panic(errDeclined)
	}
	return errDeclined
}

// soak is one run, and what the services have said.
type soak struct {
	*testing.T
	database string
	ledger   *ledger.Ledger
	started  int
	kills    int

	mu        sync.Mutex
	succeeded map[int]bool
	failed    map[int]int
}

// Three services handle events while they are stopped, killed and started again. Every event is
// handled with success, or becomes a dead letter exactly as the policy says.
func TestServices_HandleOrDeadLetterEveryEvent(t *testing.T) {
	database, pool, client := begin(t)
	s := &soak{T: t, database: database, ledger: ledger.New(), succeeded: map[int]bool{}, failed: map[int]int{}}
	services := make([]*child, consumers)
	for i := range services {
		services[i] = s.service()
	}
	published := make(chan error, 1)
	go func() {
		const batch = 100
		for first := 0; first < *soakEvents; first += batch {
			var events []order
			for id := first; id < min(first+batch, *soakEvents); id++ {
				events = append(events, order{id})
				s.ledger.Published(strconv.Itoa(id), ledger.Stored)
			}
			if err := ezq.PublishBatch(context.Background(), client, events, ezq.Topic(soakTopic)); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	for done := false; !done; {
		s.replace(services)
		select {
		case err := <-published:
			require.NoError(t, err)
			published = nil
		case <-time.After(200 * time.Millisecond):
		}
		done = published == nil && s.countLeft(pool) == 0
	}
	for _, c := range services {
		s.stop(c)
	}
	s.verify(pool)
}

func (s *soak) service() *child {
	s.Helper()
	s.started++
	name := fmt.Sprint("service ", s.started)
	return start(s.T, name, service{Database: s.database, Lease: 2 * time.Second}, s.handleLine)
}

func (s *soak) handleLine(c *child, words []string) {
	if words[0] == listening {
		return
	}
	id, err := strconv.Atoi(words[len(words)-1])
	if err != nil {
		s.Errorf("%s says %q", c.name, words)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch words[0] {
	case "delivered":
		s.ledger.Delivered(words[1], c.name)
	case "succeeded":
		s.succeeded[id] = true
	case "failed":
		s.failed[id]++
		s.ledger.Returned(words[1], c.name, ledger.Nacked)
	}
}

// replace ends one of the services, mostly in order and sometimes not, and starts another one.
func (s *soak) replace(services []*child) {
	s.Helper()
	i := rand.IntN(len(services))
	c := services[i]
	if rand.IntN(3) == 0 {
		s.kills++
		s.ledger.Begin("killed", c.name) // for ever
		c.signal(s.T, syscall.SIGKILL)
		require.Equal(s, -1, c.end(s.T))
	} else {
		s.stop(c)
	}
	services[i] = s.service()
}

// stop ends a service in order. One that has just been started may not listen to the signal yet,
// which then ends it at once; it has done nothing until then.
func (s *soak) stop(c *child) {
	s.Helper()
	c.signal(s.T, syscall.SIGTERM)
	const byTheSignal = -1
	require.Contains(s, []int{0, byTheSignal}, c.end(s.T), &c.errors)
}

// countLeft is how many events are neither handled nor dead-lettered.
func (s *soak) countLeft(pool *pgxpool.Pool) (n int) {
	s.Helper()
	require.NoError(s, pool.QueryRow(s.Context(), "select count(*) from pgmq.q_"+soakTopic).Scan(&n))
	return n
}

func (s *soak) verify(pool *pgxpool.Pool) {
	s.Helper()
	dead := map[int]int{}
	rows, err := pool.Query(s.Context(), `select (message->>'ID')::int, (headers->>'failures_poisoned')::int from pgmq.q_`+soakTopic+`_dead`)
	require.NoError(s, err)
	var id, failures int
	_, err = pgx.ForEachRow(rows, []any{&id, &failures}, func() error {
		if _, twice := dead[id]; twice {
			s.Errorf("order %d is a dead letter twice", id)
		}
		dead[id] = failures
		return nil
	})
	require.NoError(s, err)
	for id := range *soakEvents {
		s.verifyOrder(order{id}, dead[id])
	}
	report := s.ledger.Report()
	s.Logf("%d services started, %d killed; %d dead letters; %v", s.started, s.kills, len(dead), report)
	if wrong := report.Wrong(); wrong != "" {
		s.Error(wrong)
	}
}

// verifyOrder compares what has become of an event with what the policy says. A kill can hide an
// outcome, whose event then fails or succeeds again.
func (s *soak) verifyOrder(o order, deadAfter int) {
	s.Helper()
	want := o.failures()
	switch {
	case deadAfter != want:
		s.Errorf("order %d: it is a dead letter after %d failures, and should be after %d (0: never)", o.ID, deadAfter, want)
	case s.succeeded[o.ID] != (want == 0):
		s.Errorf("order %d: that it has succeeded is %t", o.ID, s.succeeded[o.ID])
	case s.failed[o.ID] < want, s.kills == 0 && s.failed[o.ID] > max(want, 1):
		s.Errorf("order %d: it has failed %d times", o.ID, s.failed[o.ID])
	}
}
