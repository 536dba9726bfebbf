package ezq_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// Whatever a Watermill router lets through at a time, and what its handlers wait for.
func TestAttach_NoWatermillMiddlewareStallsRouter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			s := &attachedSimulation{t: t, rng: rand.New(rand.NewPCG(seed, 0))}
			s.run()
		})
	}
}

// attachedSimulation is a router in a Watermill router with settings by chance.
type attachedSimulation struct {
	t   *testing.T
	rng *rand.Rand

	concurrency int
	batches     bool
	early       bool // messages are acked first, and in no order
	fails       bool

	mu      sync.Mutex
	running map[string]int // by key
	now     int
	order   map[string][]int
	failed  map[int]bool
	done    map[int]bool
}

func (s *attachedSimulation) run() {
	const n = 40
	s.running, s.order, s.failed, s.done = map[string]int{}, map[string][]int{}, map[int]bool{}, map[int]bool{}
	s.concurrency = 1 + s.rng.IntN(4)
	s.batches, s.early, s.fails = s.rng.IntN(3) == 0, s.rng.IntN(3) == 0, s.rng.IntN(3) == 0
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: s.concurrency})
	s.handle(router)
	for i := range n {
		if key := s.rng.IntN(4); key > 0 {
			publishKeyed(s.t, broker, fmt.Sprint("key ", key), i)
		} else {
			publish(s.t, broker, orderPlaced{i})
		}
	}
	attach(s.t, router, s.middleware()...)
	all := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.done) == n
	}
	require.Eventually(s.t, all, 20*time.Second, time.Millisecond, "%d at a time, batches %v, early %v, fails %v", s.concurrency, s.batches, s.early, s.fails)
	require.Eventually(s.t, func() bool { return router.Stats()["ezq"].InFlight == 0 }, 20*time.Second, time.Millisecond)
	if s.early || s.fails || s.batches {
		return
	}
	for _, ids := range s.order {
		require.IsIncreasing(s.t, ids)
	}
}

func (s *attachedSimulation) middleware() (chosen []message.HandlerMiddleware) {
	early := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msg.Ack()
			<-msg.Context().Done() // the backend knows
			return h(msg)
		}
	}
	if s.early && s.rng.IntN(2) == 0 {
		chosen = append(chosen, early)
	}
	chosen = append(chosen, permits(1+s.rng.IntN(4)))
	if s.early && len(chosen) == 1 {
		chosen = append(chosen, early)
	}
	return chosen
}

func (s *attachedSimulation) handle(router *ezq.Router) {
	var options []ezq.HandleOption // for single events and for batches
	if s.rng.IntN(2) == 0 {
		options = append(options, ezq.Concurrency(1+s.rng.IntN(2)))
		ezq.Handle(router, ignore[mailDue]) // so that more is fetched
	}
	if !s.batches {
		ezq.Handle(router, s.one, options...)
		return
	}
	batch := []ezq.BatchOption{ezq.Size(2 + s.rng.IntN(5)), ezq.Linger(time.Millisecond)}
	for _, option := range options {
		batch = append(batch, option)
	}
	ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
		end := s.begin("")
		defer end()
		for _, e := range events {
			s.record(e.ID, "")
		}
		return nil
	}, batch...)
}

func (s *attachedSimulation) one(ctx context.Context, e orderPlaced) error {
	key := ezq.MetaFromContext(ctx).Headers["x-pgmq-group"]
	defer s.begin(key)()
	if s.fails && !s.early && e.ID%7 == 0 && s.first(e.ID) {
		return ezq.RetryAfter(0, errBoom)
	}
	s.record(e.ID, key)
	return nil
}

func (s *attachedSimulation) begin(key string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now++
	s.running[key]++
	assert(s.t, s.now <= s.concurrency)
	assert(s.t, key == "" || s.running[key] == 1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
		s.running[key]--
	}
}

// first reports whether an event has not failed yet.
func (s *attachedSimulation) first(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.failed[id]
	s.failed[id] = true
	return !before
}

func (s *attachedSimulation) record(id int, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[id] = true
	if key != "" {
		s.order[key] = append(s.order[key], id)
	}
}
