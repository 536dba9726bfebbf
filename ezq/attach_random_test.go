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
func TestNoMiddlewareOfAWatermillRouterStopsARouter(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		t.Run(fmt.Sprintf("with seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w := &attachedWorld{t: t, dice: rand.New(rand.NewPCG(seed, 0))}
			w.run()
		})
	}
}

// attachedWorld is a router in a Watermill router, of which chance has decided.
type attachedWorld struct {
	t    *testing.T
	dice *rand.Rand

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

func (w *attachedWorld) run() {
	const n = 40
	w.running, w.order, w.failed, w.done = map[string]int{}, map[string][]int{}, map[int]bool{}, map[int]bool{}
	w.concurrency = 1 + w.dice.IntN(4)
	w.batches, w.early, w.fails = w.dice.IntN(3) == 0, w.dice.IntN(3) == 0, w.dice.IntN(3) == 0
	broker := memory.New(&memory.Config{Logger: quiet()})
	router := newRouter(broker, ezq.Config{Concurrency: w.concurrency})
	w.handle(router)
	for i := range n {
		if key := w.dice.IntN(4); key > 0 {
			publishKeyed(w.t, broker, fmt.Sprint("key ", key), i)
		} else {
			publish(w.t, broker, orderPlaced{i})
		}
	}
	attach(w.t, router, w.middleware()...)
	all := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.done) == n
	}
	require.Eventually(w.t, all, 20*time.Second, time.Millisecond, "%d at a time, batches %v, early %v, fails %v", w.concurrency, w.batches, w.early, w.fails)
	require.Eventually(w.t, func() bool { return router.Stats()["ezq"].InFlight == 0 }, 20*time.Second, time.Millisecond)
	if w.early || w.fails || w.batches {
		return
	}
	for _, ids := range w.order {
		require.IsIncreasing(w.t, ids)
	}
}

func (w *attachedWorld) middleware() (chosen []message.HandlerMiddleware) {
	early := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msg.Ack()
			<-msg.Context().Done() // the backend knows
			return h(msg)
		}
	}
	if w.early && w.dice.IntN(2) == 0 {
		chosen = append(chosen, early)
	}
	chosen = append(chosen, permits(1+w.dice.IntN(4)))
	if w.early && len(chosen) == 1 {
		chosen = append(chosen, early)
	}
	return chosen
}

func (w *attachedWorld) handle(router *ezq.Router) {
	var options []ezq.HandleOption // for single events and for batches
	if w.dice.IntN(2) == 0 {
		options = append(options, ezq.Concurrency(1+w.dice.IntN(2)))
		ezq.Handle(router, ignore[mailDue]) // for whose sake more is taken
	}
	if !w.batches {
		ezq.Handle(router, w.one, options...)
		return
	}
	batch := []ezq.BatchOption{ezq.Size(2 + w.dice.IntN(5)), ezq.Linger(time.Millisecond)}
	for _, option := range options {
		batch = append(batch, option)
	}
	ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error {
		end := w.begin("")
		defer end()
		for _, e := range events {
			w.note(e.ID, "")
		}
		return nil
	}, batch...)
}

func (w *attachedWorld) one(ctx context.Context, e orderPlaced) error {
	key := ezq.MetaFromContext(ctx).Headers["x-pgmq-group"]
	defer w.begin(key)()
	if w.fails && !w.early && e.ID%7 == 0 && w.first(e.ID) {
		return ezq.RetryAfter(0, errBoom)
	}
	w.note(e.ID, key)
	return nil
}

func (w *attachedWorld) begin(key string) (end func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now++
	w.running[key]++
	assert(w.t, w.now <= w.concurrency)
	assert(w.t, key == "" || w.running[key] == 1)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.now--
		w.running[key]--
	}
}

// first reports whether an event has not failed yet.
func (w *attachedWorld) first(id int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.failed[id]
	w.failed[id] = true
	return !before
}

func (w *attachedWorld) note(id int, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[id] = true
	if key != "" {
		w.order[key] = append(w.order[key], id)
	}
}
