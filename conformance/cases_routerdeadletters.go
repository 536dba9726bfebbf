package conformance

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

func routerDeadLetters() []Case {
	return theme("router and dead letters",
		promise("a permanent failure is a dead letter",
			"An event whose handler returns Permanent is moved, with the reason, and is not handled again.",
			needsDurable, permanentIsDeadLetter),
		promise("retries end",
			"An event that keeps failing is handled as often as Retry says, and is a dead letter then.",
			needsDurable|needsProgress, retriesEnd),
		promise("what cannot be handled is a dead letter",
			"Events that no handler takes, or that cannot be decoded, are moved as they are, and the others are handled.",
			needsDurable, unhandledIsDeadLetter),
		promise("an expired event is a dead letter",
			"An event that is still in the queue when it expires is not handled, but moved with that reason; others are handled.",
			needsDurable, expiredIsDeadLetter),
	)
}

// startWithDeadLetters runs a router whose dead letters go to a topic.
func startWithDeadLetters(p *peer, topic, dead string, handler func(context.Context, visit) error) {
	startRouter(p, ezq.Config{UnknownFor: 1}, []string{topic}, func(r *ezq.Router) {
		r.Use(
			middleware.Retry{Attempts: 3, Delay: 1, MaxDelay: 1}.Middleware,
			middleware.Poison{Topic: dead, To: p.Publisher, Logger: slog.New(slog.DiscardHandler)}.Middleware,
		)
		ezq.Handle(r, handler, ezq.Topic(topic))
	})
}

// requireDeadLetter ends the case unless a message is a dead letter of that reason.
func requireDeadLetter(h *harness, deadLetter *message.Message, topic, reason string) {
	got := deadLetter.Metadata.Get(backend.DeadLetterReason)
	h.require(strings.Contains(got, reason), "the reason of a dead letter is %q instead of %q", got, reason)
	from := deadLetter.Metadata.Get(backend.DeadLetterTopic)
	h.require(from == topic, "a dead letter says that it came from %q instead of %q", from, topic)
	h.ack(deadLetter)
}

func permanentIsDeadLetter(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	deadInbox := p.subscribe(dead)
	handled := make(chan string, 100)
	startWithDeadLetters(p, topic, dead, func(_ context.Context, e visit) error {
		handled <- e.Label
		if e.Label == "a" {
			return ezq.Permanent(errVisit)
		}
		return nil
	})
	publishEvents(p, topic, visits("a", "b")...)
	requireDeadLetter(h, deadInbox.receive(), topic, errVisit.Error())
	collect(h, handled, "a", "b")
	nothing(h, handled, quietPeriod, "the event %q was handled again")
	deadInbox.none(quietPeriod, "it was acked")
}

func retriesEnd(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	deadInbox := p.subscribe(dead)
	handled := make(chan int, 100)
	startWithDeadLetters(p, topic, dead, func(ctx context.Context, _ visit) error {
		handled <- ezq.MetaFromContext(ctx).Failures
		return errVisit
	})
	publishEvents(p, topic, visit{"a"})
	requireDeadLetter(h, deadInbox.receive(), topic, errVisit.Error())
	for n := range 3 {
		failures := next(h, handled, "the event was a dead letter before it was handled three times")
		h.require(failures == n, "the handler was told of %d failures instead of %d", failures, n)
	}
	nothing(h, handled, quietPeriod, "the event was handled after its last failure, number %d")
}

func unhandledIsDeadLetter(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	deadInbox := p.subscribe(dead)
	handled := make(chan string, 100)
	startWithDeadLetters(p, topic, dead, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	undecodable := message.NewMessage("undecodable", []byte(`{"_type":"ConformanceVisit","Label":7}`))
	publishEvents(p, topic, unknownEvent{}, visit{"a"})
	p.send(topic, undecodable)
	payloads := map[string]bool{}
	for range 2 {
		deadLetter := deadInbox.receive()
		payloads[string(deadLetter.Payload)] = true
		requireDeadLetter(h, deadLetter, topic, "")
	}
	h.require(payloads[`{"_type":"ConformanceVisit","Label":7}`], "an event that cannot be decoded is not among the dead letters as it was")
	publishEvents(p, topic, visit{"b"})
	collect(h, handled, "a", "b")
}

func expiredIsDeadLetter(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	deadInbox := p.subscribe(dead)
	p.initialize(topic)
	const d = 100 * time.Millisecond
	for label, expiry := range map[string]time.Duration{"late": d, "in time": time.Hour} {
		h.must("ezq.Publish with an expiry", func() error {
			return ezq.Publish(h.ctx, p.Publisher, visit{label}, ezq.Topic(topic), ezq.Expires(expiry))
		})
	}
	time.Sleep(2 * d)
	handled := make(chan string, 100)
	startWithDeadLetters(p, topic, dead, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	requireDeadLetter(h, deadInbox.receive(), topic, "expired")
	collect(h, handled, "in time")
	nothing(h, handled, quietPeriod, "the event %q was handled")
}
