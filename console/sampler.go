package console

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
)

const (
	historyStep   = time.Minute
	historyPoints = 60
	maxHistories  = 2_000 // queues of which the last hour is kept
)

// snapshot is the state of all queues at one moment.
type snapshot struct {
	version int
	at      time.Time
	took    time.Duration
	states  []backend.QueueState
	pauses  []backend.Paused
	err     error // why something is missing
}

// queueKey is what tells a queue from others.
type queueKey struct{ queue, topic, group string }

func keyOf(s backend.QueueState) queueKey { return queueKey{s.Queue, s.Topic, s.Group} }

// point is the state of a queue in one minute.
type point struct {
	at             time.Time
	waiting        int
	added, removed int64
}

// sampler reads the state of all queues, once for all viewers.
type sampler struct {
	inspector backend.Inspector
	interval  time.Duration
	timeout   time.Duration
	wanted    chan struct{} // has a token if a viewer waits

	mu       sync.Mutex
	current  *snapshot
	changed  chan struct{} // closed when there is a newer one
	viewed   time.Time     // when a viewer last asked
	watching int           // viewers that are kept up to date
	history  map[queueKey][]point
}

func newSampler(inspector backend.Inspector, interval, timeout time.Duration) *sampler {
	return &sampler{
		inspector: inspector, interval: interval, timeout: timeout, wanted: make(chan struct{}, 1), changed: make(chan struct{}), history: map[queueKey][]point{},
	}
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	for ctx.Err() == nil {
		took := s.sample(ctx)
		s.wait(ctx, took)
	}
}

// wait waits until it is time for the next sample: soon while there are viewers, and longer the longer a sample takes.
func (s *sampler) wait(ctx context.Context, took time.Duration) {
	least := time.NewTimer(max(s.interval, 10*took))
	defer least.Stop()
	select {
	case <-ctx.Done():
		return
	case <-least.C:
	}
	s.mu.Lock()
	idle := s.watching == 0 && time.Since(s.viewed) > historyStep
	s.mu.Unlock()
	if !idle {
		return
	}
	rest := time.NewTimer(historyStep - s.interval)
	defer rest.Stop()
	select {
	case <-ctx.Done():
	case <-rest.C:
	case <-s.wanted:
	}
}

// sample reads the state of all queues, and returns how long that took.
func (s *sampler) sample(ctx context.Context) time.Duration {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	states, err := s.inspector.QueueStates(ctx)
	pauses, failed := s.inspector.AllPauses(ctx)
	now := &snapshot{at: time.Now(), took: time.Since(begin), states: states, pauses: pauses, err: cmp.Or(err, failed)}
	s.mu.Lock()
	defer s.mu.Unlock()
	now.version = 1
	if s.current != nil {
		now.version = s.current.version + 1
	}
	s.current = now
	s.remember(now)
	close(s.changed)
	s.changed = make(chan struct{})
	return now.took
}

// remember adds a point to the history of each queue, if a minute has passed.
func (s *sampler) remember(now *snapshot) {
	there := make(map[queueKey]bool, len(now.states))
	for _, state := range now.states {
		key := keyOf(state)
		there[key] = true
		points, known := s.history[key]
		if n := len(points); n > 0 && now.at.Sub(points[n-1].at) < historyStep-time.Second || !known && len(s.history) >= maxHistories {
			continue
		}
		points = append(points, point{now.at, state.Waiting, state.Added, state.Removed})
		s.history[key] = points[max(len(points)-historyPoints, 0):]
	}
	if now.err == nil {
		for key := range s.history {
			if !there[key] {
				delete(s.history, key)
			}
		}
	}
}

// latest returns the newest snapshot, and what is closed when there is a newer one. It waits for the first one, until ctx
// ends: then it returns nil.
func (s *sampler) latest(ctx context.Context) (*snapshot, <-chan struct{}) {
	for {
		s.mu.Lock()
		current, changed := s.current, s.changed
		s.viewed = time.Now()
		s.mu.Unlock()
		select {
		case s.wanted <- struct{}{}:
		default:
		}
		if current != nil {
			return current, changed
		}
		select {
		case <-ctx.Done():
			return nil, changed
		case <-changed:
		}
	}
}

// watch counts a viewer that is kept up to date, until the function is called that it returns.
func (s *sampler) watch() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watching++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watching--
		s.viewed = time.Now()
	}
}

// lastHour returns the history of a queue.
func (s *sampler) lastHour(key queueKey) []point {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]point(nil), s.history[key]...)
}
