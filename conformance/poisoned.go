package conformance

import (
	"context"
	"log/slog"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

func poisoned() []Case {
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
	)
}

// poison runs a router whose dead letters go to a topic.
func (p *peer) poison(topic, dead string, handler func(context.Context, visit) error) {
	p.start(ezq.Config{UnknownFor: 1}, []string{topic}, func(r *ezq.Router) {
		r.Use(
			middleware.Retry{Attempts: 3, Initial: 1, Max: 1}.Middleware,
			middleware.Poison{Topic: dead, To: p.Publisher, Logger: slog.New(slog.DiscardHandler)}.Middleware,
		)
		ezq.Handle(r, handler, ezq.Topic(topic))
	})
}

// requireLetter ends the case unless a message is a dead letter of that reason.
func (b *bench) requireLetter(letter *message.Message, topic, reason string) {
	got := letter.Metadata.Get(backend.DeadLetterReason)
	b.require(strings.Contains(got, reason), "the reason of a dead letter is %q instead of %q", got, reason)
	from := letter.Metadata.Get(backend.DeadLetterTopic)
	b.require(from == topic, "a dead letter says that it came from %q instead of %q", from, topic)
	b.ack(letter)
}

func permanentIsDeadLetter(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	letters := p.subscribe(dead)
	handled := make(chan string, 100)
	p.poison(topic, dead, func(_ context.Context, e visit) error {
		handled <- e.Label
		if e.Label == "a" {
			return ezq.Permanent(errVisit)
		}
		return nil
	})
	p.emit(topic, visits("a", "b")...)
	b.requireLetter(letters.receive(), topic, errVisit.Error())
	collect(b, handled, "a", "b")
	nothing(b, handled, moment, "the event %q was handled again")
	letters.none(moment, "it was acked")
}

func retriesEnd(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	letters := p.subscribe(dead)
	handled := make(chan int, 100)
	p.poison(topic, dead, func(ctx context.Context, _ visit) error {
		handled <- ezq.MetaFromContext(ctx).Failures
		return errVisit
	})
	p.emit(topic, visit{"a"})
	b.requireLetter(letters.receive(), topic, errVisit.Error())
	for n := range 3 {
		failures := next(b, handled, "the event was a dead letter before it was handled three times")
		b.require(failures == n, "the handler was told of %d failures instead of %d", failures, n)
	}
	nothing(b, handled, moment, "the event was handled after its last failure, number %d")
}

func unhandledIsDeadLetter(b *bench) {
	p, topic, dead := b.connect(Options{}), b.topic(), b.topic()
	letters := p.subscribe(dead)
	handled := make(chan string, 100)
	p.poison(topic, dead, func(_ context.Context, e visit) error {
		handled <- e.Label
		return nil
	})
	undecodable := message.NewMessage("undecodable", []byte(`{"_type":"ConformanceVisit","Label":7}`))
	p.emit(topic, stranger{}, visit{"a"})
	p.send(topic, undecodable)
	payloads := map[string]bool{}
	for range 2 {
		letter := letters.receive()
		payloads[string(letter.Payload)] = true
		b.requireLetter(letter, topic, "")
	}
	b.require(payloads[`{"_type":"ConformanceVisit","Label":7}`], "an event that cannot be decoded is not among the dead letters as it was")
	p.emit(topic, visit{"b"})
	collect(b, handled, "a", "b")
}
