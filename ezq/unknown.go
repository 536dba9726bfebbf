package ezq

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

const (
	defaultUnknownFor = 24 * time.Hour

	unknownMin = time.Second // an unknown event comes back so soon at first,
	unknownMax = time.Minute // and so late in the end

	unknownLog   = 10 * time.Minute // how often one name is logged
	unknownNames = 1000             // how many names of a topic are told apart
)

// Ignore has the router acknowledge the named events of a topic, which have no handler:
// a consumer of a topic that others publish to names what it has no use for. Middleware
// does not see them; TopicStats.Ignored counts them. It may be called several times.
//
//	router.Ignore("orders", "OrderPaid", "OrderShipped")
//
// Ignore panics if the router has been started, if no event is named, or if a name
// cannot be that of an event. A topic without handlers, and an event that has one, are
// errors of [Router.Run].
func (r *Router) Ignore(topic string, events ...string) {
	r.mustNotRun("Ignore")
	if len(events) == 0 {
		panic(fmt.Sprintf("ezq: Ignore: no event of topic %q is named: name those that are to be skipped", topic))
	}
	for _, event := range events {
		if flaw := nameFlaw(event); flaw != "" {
			panic(fmt.Sprintf("ezq: Ignore: %q %s: use the name that the events have", event, flaw))
		}
		if r.ignored[topic] == nil {
			r.ignored[topic] = map[string]bool{}
		}
		r.ignored[topic][event] = true
	}
}

// ignoreFlaw returns what is wrong with what [Router.Ignore] was told.
func (r *Router) ignoreFlaw() error {
	for topic, events := range r.ignored {
		tp := r.topics[topic]
		if tp == nil {
			return fmt.Errorf("ezq: Ignore has %q, a topic without handlers: is the name right?", topic)
		}
		for event := range events {
			if tp.events[event] != nil {
				return fmt.Errorf("ezq: Ignore has event %q on topic %q, which has a handler: remove one of the two", event, topic)
			}
		}
	}
	return nil
}

// strangers are the unknown events that a router has met on one topic, by their names.
type strangers struct {
	mu   sync.Mutex
	seen map[string]*stranger
}

type stranger struct {
	first  time.Time
	logged time.Time
}

// meet notes an event. It returns when the name was met first, and whether to log that.
func (s *strangers) meet(event string, now time.Time) (first time.Time, log bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]*stranger{}
	}
	if s.seen[event] == nil && len(s.seen) >= unknownNames {
		event = "" // those that are too many share one
	}
	met := s.seen[event]
	if met == nil {
		met = &stranger{first: now}
		s.seen[event] = met
	}
	if log = met.logged.IsZero() || now.Sub(met.logged) >= unknownLog; log {
		met.logged = now
	}
	return met.first, log
}

// passOver settles an event that has no handler, unless it is to fail: it acknowledges
// one that is to be ignored, and releases one that another program may know.
func (k *task) passOver() bool {
	if k.routes != nil {
		return false
	}
	if k.ignored[k.name][k.event] {
		k.turn.end()
		k.counts.conclude(ignored)
		k.msg.Ack()
		k.slots.free()
		return true
	}
	now := time.Now()
	first, log := k.strangers.meet(k.event, now)
	back := unchanged(k.ctx)
	if d := backend.DeliveryFromContext(k.ctx); d != nil && d.Progress {
		if first = d.UnknownSince; first.IsZero() {
			first = now
		}
	}
	if k.config.UnknownFor < unknownMin || now.Sub(first) >= k.config.UnknownFor {
		return false
	}
	wait := min(max(now.Sub(first), unknownMin), unknownMax)
	back.Delay, back.Uncounted, back.UnknownSince = wait-rand.N(wait/5), true, first //nolint:gosec // chance only spreads load, and may be guessed
	if log {
		k.config.Logger.WarnContext(k.ctx, "ezq: unknown event released: deploy a program that knows it, or name it with Router.Ignore",
			"event", excerpt.Of(k.event), "topic", k.name, "id", excerpt.Of(k.msg.UUID), "retry_in", back.Delay.Round(time.Millisecond).String())
	}
	k.turn.end()
	k.counts.conclude(unknown)
	done := k.slots.await(1)
	k.slots.free()
	if !k.features.Redelay {
		closedWithin(back.Delay, k.taking.Done()) // the backend cannot wait, so we do
	}
	backend.Nack(k.msg, back)
	done()
	return true
}
