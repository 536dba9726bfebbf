package console

import (
	"cmp"
	"context"
	"slices"
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
	began   time.Time // that of reading it
	at      time.Time
	took    time.Duration
	states  []backend.QueueState
	pauses  []backend.Paused
	err     error // why something is missing

	read *snapshot // the newest one of which the states could be read, at least in part: this one, or an older one, or nil
}

// state returns that of a queue, if it is there.
func (s *snapshot) state(topic, group string) (state backend.QueueState, ok bool) {
	i := slices.IndexFunc(s.states, func(q backend.QueueState) bool { return q.Topic == topic && q.Group == group && topic != "" })
	if i < 0 {
		return state, false
	}
	return s.states[i], true
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
	outdated  chan struct{} // has a token if something was changed

	mu       sync.Mutex
	current  *snapshot
	changed  chan struct{} // closed when there is a newer one
	needed   time.Time     // what was begun to be read before this is too old
	viewed   time.Time     // when a viewer last asked
	watching int           // viewers that are kept up to date
	history  map[queueKey][]point
}

func newSampler(inspector backend.Inspector, interval, timeout time.Duration) *sampler {
	return &sampler{
		inspector: inspector, interval: interval, timeout: timeout, history: map[queueKey][]point{},
		wanted: make(chan struct{}, 1), outdated: make(chan struct{}, 1), changed: make(chan struct{}),
	}
}

// run samples until ctx ends. The first sample is for the first viewer: a program may make its topics after its console.
func (s *sampler) run(ctx context.Context) {
	rest(ctx, s.interval, s.wanted)
	for ctx.Err() == nil {
		took := s.sample(ctx)
		s.wait(ctx, took)
	}
}

// wait waits until it is time for the next sample: soon while there are viewers, and at once if something was changed.
func (s *sampler) wait(ctx context.Context, took time.Duration) {
	rest(ctx, s.least(took), s.outdated)
	s.mu.Lock()
	idle := s.watching == 0 && time.Since(s.viewed) > historyStep
	s.mu.Unlock()
	if idle {
		rest(ctx, historyStep-s.interval, s.wanted)
	}
}

// least is how long a sample is not repeated, which is longer the longer it takes.
func (s *sampler) least(took time.Duration) time.Duration { return max(s.interval, 10*took) }

// rest waits for d, for a token, or for the end of ctx.
func rest(ctx context.Context, d time.Duration, token <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-token:
	}
}

// signal leaves a token.
func signal(token chan<- struct{}) {
	select {
	case token <- struct{}{}:
	default:
	}
}

// sample reads the state of all queues, and returns how long that took.
func (s *sampler) sample(ctx context.Context) time.Duration {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	states, err := s.inspector.QueueStates(ctx)
	pauses, failed := s.inspector.AllPauses(ctx)
	now := &snapshot{began: begin, at: time.Now(), took: time.Since(begin), states: states, pauses: pauses, err: cmp.Or(err, failed)}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil || len(states) > 0:
		now.read = now
	case s.current != nil:
		now.read = s.current.read
	}
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
// ends: then it returns nil. If the newest is old, it waits for another for half the time that a page may take.
func (s *sampler) latest(ctx context.Context) (*snapshot, <-chan struct{}) {
	patient, cancel := context.WithTimeout(ctx, s.timeout/2)
	defer cancel()
	for {
		s.mu.Lock()
		current, changed, old := s.current, s.changed, s.isOld()
		s.viewed = time.Now()
		s.mu.Unlock()
		signal(s.wanted)
		ends := ctx.Done()
		switch {
		case !old:
			return current, changed
		case current != nil:
			ends = patient.Done()
		}
		select {
		case <-ends:
			return current, changed
		case <-changed:
		}
	}
}

// has reports whether a queue of the last sample is so. It waits for no other.
func (s *sampler) has(matches func(backend.QueueState) bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current != nil && slices.ContainsFunc(s.current.states, matches)
}

// isOld reports whether there is no snapshot yet, or it is older than while there are viewers, or than the last change. The mutex is held.
func (s *sampler) isOld() bool {
	const slack = time.Second
	now := s.current
	return now == nil || now.began.Before(s.needed) || time.Since(now.at) > s.least(now.took)+now.took+slack
}

// outdate has the next page show what was changed until now.
func (s *sampler) outdate() {
	s.mu.Lock()
	s.needed = time.Now()
	s.mu.Unlock()
	signal(s.outdated)
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
