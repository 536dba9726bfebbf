package ezq

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// outcome is what became of an event with one of its handlers.
type outcome struct {
	route   *route
	fate    fate
	err     error               // if it failed
	verdict backend.Disposition // if it was given up or back
}

// fate is the kind of an outcome. Of several the highest decides: no event is
// given up while a handler has tries left.
type fate uint8

const (
	succeeded fate = iota
	givenUp        // a middleware moved it to the dead letters
	givenBack      // it was interrupted, or not begun
	failed
	unknown // by no handler: it was released
	ignored // by no handler: it was acknowledged
)

// judge says what became of msg, which the handler of h has returned from with err.
func (k *task) judge(ctx context.Context, rt *route, h *handling, msg *message.Message, err error) outcome {
	o := outcome{route: rt, err: err}
	switch {
	case isClosed(msg.Nacked()): // by a middleware, or because it was interrupted
		o.fate = givenBack
		if d := backend.DeliveryFromContext(ctx); d != nil {
			o.verdict, _ = d.Disposition()
		}
		if o.verdict.Letter != nil {
			o.fate = givenUp
		}
	case err == nil, isClosed(msg.Acked()):
		o.fate = succeeded
	case h.turnedAway:
		o.fate, o.verdict = givenBack, notBegun()
	case interrupted(ctx):
		o.fate, o.verdict.InPlace = givenBack, true
	default:
		k.judgeError(ctx, &o, err)
	}
	return o
}

// judgeError says what becomes of an event that a handler has returned err about.
func (k *task) judgeError(ctx context.Context, o *outcome, err error) {
	if d, ok := SnoozeDelay(err); ok {
		o.fate, o.verdict.Delay, o.verdict.Uncounted = givenBack, d, true
		return
	}
	o.fate = failed
	if !IsPermanent(err) {
		return
	}
	d := backend.DeliveryFromContext(ctx)
	if d == nil || !d.DeadLetters {
		k.complain(err)
		return
	}
	from, failures := k.name, d.Failures+1
	o.fate, o.verdict.Letter = givenUp, &backend.DeadLetterTarget{
		Topic: from + "_dead", Metadata: backend.DeadLetterMetadata(from, o.route.label(), failures, err),
	}
	k.log(slog.LevelError, "ezq: event given up", *o, failures, "to", o.verdict.Letter.Topic)
}

// complain says once that what is permanent cannot be final here.
func (k *task) complain(err error) {
	k.unfinal.Do(func() {
		k.config.Logger.ErrorContext(k.ctx, "ezq: an event has failed for good and will be tried again all the same: "+
			"the backend does not promise DeadLetter: use middleware.Poison, and set its To",
			"event", excerpt.Of(k.event), "topic", k.name, "id", excerpt.Of(k.msg.UUID), "error", err)
	})
}

// notBegun is the verdict on an event that no handler has begun with.
func notBegun() backend.Disposition {
	return backend.Disposition{Redelivery: backend.Redelivery{InPlace: true, Uncounted: true}}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// conclude tells the backend what became of the event.
func (k *task) conclude(outcomes []outcome) {
	var worst fate
	back := unchanged(k.ctx)
	back.InPlace, back.Uncounted = true, true // unless a handler says otherwise
	earlier := back.Failures
	var letter *backend.DeadLetterTarget
	for _, o := range outcomes {
		worst = max(worst, o.fate)
		switch o.fate {
		case succeeded:
			if o.route.name != "" && len(k.routes) > 1 {
				back.Done = append(slices.Clip(back.Done), o.route.name)
			}
		case givenUp:
			letter, back.Uncounted = o.verdict.Letter, false
		case givenBack:
			back.Delay = max(back.Delay, o.verdict.Delay)
			back.Failures = max(back.Failures, o.verdict.Failures)
			back.InPlace = back.InPlace && o.verdict.InPlace
			back.Uncounted = back.Uncounted && o.verdict.Uncounted
		case failed: // once for them all
			wait := pace(earlier+1, o.err)
			back.Delay = max(back.Delay, wait)
			back.Failures = earlier + 1
			back.InPlace, back.Uncounted = false, false
			k.logFailure(o, back.Failures, wait)
		}
	}
	if k.routes != nil && (worst != givenBack || !back.InPlace || !back.Uncounted) {
		back.UnknownSince = time.Time{} // a handler has begun with it
	}
	k.turn.end()
	k.counts.conclude(worst)
	k.tell(worst, back, letter)
}

// tell is where the backend learns it. An event that has been acked or nacked
// already stays so.
func (k *task) tell(worst fate, back backend.Redelivery, letter *backend.DeadLetterTarget) {
	switch worst {
	case succeeded:
		k.msg.Ack()
	case givenUp:
		backend.DeadLetter(k.msg, *letter)
	case givenBack, failed:
		if !k.features.Redelay {
			closedWithin(back.Delay, k.taking.Done()) // the backend cannot wait, so we do
		}
		backend.Nack(k.msg, back)
	}
}

// giveBack gives msg back, which a handler has begun with. It has not failed.
func giveBack(msg *message.Message) {
	back := unchanged(msg.Context())
	back.InPlace = true
	backend.Nack(msg, back)
}

// unchanged is the redelivery of an event that nothing has happened to.
func unchanged(ctx context.Context) (r backend.Redelivery) {
	if d := backend.DeliveryFromContext(ctx); d != nil {
		r.Failures, r.Done, r.UnknownSince = d.Failures, d.Done, d.UnknownSince
	}
	return r
}

// interrupted reports whether the context of an event ended because its consumer
// no longer counts: it has stopped, or lost the event.
func interrupted(ctx context.Context) bool {
	cause := context.Cause(ctx)
	return errors.Is(cause, ErrInterrupted) || errors.Is(cause, ErrLeaseLost)
}

const (
	paceMin = time.Second
	paceMax = 5 * time.Minute
)

// pace is how long an event waits that has failed so many times, the last time
// with err: as long as the handler asked, or else a second, doubling up to five
// minutes, and up to a fifth less, so that events that failed together do not
// come back together.
func pace(failures int, err error) time.Duration {
	if wait, ok := RetryDelay(err); ok {
		return wait
	}
	wait := min(paceMin<<min(failures-1, 20), paceMax)
	return wait - rand.N(wait/5) //nolint:gosec // chance only spreads load, and may be guessed
}

func (k *task) logFailure(o outcome, failures int, wait time.Duration) {
	level := slog.LevelWarn
	if IsPermanent(o.err) { // no retry cures it, though it comes back: nothing takes it out of the queue
		level = slog.LevelError
	}
	k.log(level, "ezq: event failed", o, failures, "retry_in", wait.Round(time.Millisecond).String())
}

func (k *task) log(level slog.Level, text string, o outcome, failures int, more ...any) {
	event := k.event
	if len(o.route.events) > 0 {
		event = o.route.events[0]
	}
	attrs := append([]any{
		"event", excerpt.Of(event), "topic", k.name, "handler", o.route.label(), "id", excerpt.Of(k.msg.UUID), "failures", failures, "error", o.err,
	}, more...)
	if p := (*PanicError)(nil); errors.As(o.err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	sparse.Log(k.ctx, k.config.Logger, level, sparse.About{Text: text, Topic: k.name, Handler: o.route.label()}, attrs...)
}
