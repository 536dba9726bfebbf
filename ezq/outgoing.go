package ezq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

type header struct{ name, value string }

// outgoing is what the options of one call ask for.
type outgoing struct {
	topic   string
	delay   time.Duration
	delayed bool // also by 0
	at      time.Time
	expiry  time.Duration // 0: they do not expire
	headers []header

	ids       []string
	condition *backend.PublishCondition
	results   []*PublishResult
}

// prepare applies opts and makes sure that p can be asked for the result, for that many events.
// Options after one that is wrong are applied too: it may be the topic, which
// the error names.
func (o *outgoing) prepare(ctx context.Context, p message.Publisher, events int, opts []PublishOption) error {
	var invalid error
	for i, opt := range opts {
		if opt == nil {
			invalid = cmp.Or(invalid, fmt.Errorf("option %d of %d is nil: leave it out", i+1, len(opts)))
			continue
		}
		invalid = cmp.Or(invalid, opt.applyToPublish(o))
	}
	switch {
	case p == nil:
		return errors.New("the publisher is nil")
	case invalid != nil:
		return invalid
	}
	if o.delayed && !o.at.IsZero() {
		return errors.New("Delay and At exclude each other")
	}
	if (o.delay > 0 || !o.at.IsZero()) && !backend.FeaturesOf(p).Delay {
		return fmt.Errorf("%T cannot delay events: publish with PGMQ or memory, or leave Delay and At out: %w", p, errors.ErrUnsupported)
	}
	if err := cmp.Or(o.checkExpiry(time.Now()), o.checkConditions(p, events)); err != nil {
		return err
	}
	return contextError(ctx)
}

// checkExpiry returns an error if the events would expire before they are due.
func (o *outgoing) checkExpiry(now time.Time) error {
	if o.expiry == 0 {
		return nil
	}
	if wait := max(o.delay, o.at.Sub(now)); wait >= o.expiry {
		return fmt.Errorf("the events would expire %v from now, and are due only %v from now", o.expiry, wait.Round(time.Millisecond))
	}
	return nil
}

// message returns a message with payload as o describes it.
func (o *outgoing) message(ctx context.Context, payload []byte) *message.Message {
	msg := message.NewMessageWithContext(ctx, watermill.NewUUID(), payload)
	msg.Metadata.Set(contentType, "application/json")
	setCause(ctx, msg.Metadata)
	if o.expiry > 0 {
		msg.Metadata.Set(backend.ExpiresAt, time.Now().Add(o.expiry).UTC().Format(time.RFC3339Nano))
	}
	for _, h := range o.headers {
		msg.Metadata.Set(h.name, h.value)
	}
	switch {
	case o.delay > 0:
		backend.SetDelay(msg, o.delay)
	case !o.at.IsZero():
		backend.SetDeliverAt(msg, o.at)
	}
	return msg
}

// checkConditions returns an error if what o asks for cannot be had for that many events, or not
// from p.
func (o *outgoing) checkConditions(p message.Publisher, events int) error {
	switch {
	case o.ids != nil && o.condition != nil:
		return errors.New("ID excludes Unique, Replace and Debounce: a key lasts until its event is done, an ID for a time")
	case o.ids != nil && len(o.ids) != events:
		return fmt.Errorf("there are %d IDs for %d events: give each one", len(o.ids), events)
	case o.condition != nil && events != 1:
		return fmt.Errorf("a key is for one event, and these are %d: publish them one by one", events)
	case o.results != nil && len(o.results) < events:
		return fmt.Errorf("ResultTo has room for %d of %d results", len(o.results), events)
	case (o.ids != nil || o.condition != nil) && !backend.FeaturesOf(p).Conditions:
		return fmt.Errorf("%T cannot store events on a condition: publish with PGMQ or memory, or leave ID, Unique, Replace and Debounce out: %w",
			p, errors.ErrUnsupported)
	case o.condition != nil && o.condition.Debounce > 0 && o.delay == 0 && o.at.IsZero():
		return errors.New("Debounce needs a Delay or At: without, the event is due at once, and nothing can replace it")
	}
	return nil
}

// setConditions gives each message its condition, or none in the place of the one that its context
// has from another message.
func (o *outgoing) setConditions(msgs []*message.Message) {
	for i, msg := range msgs {
		c := o.condition
		if o.ids != nil {
			msg.UUID, c = o.ids[i], &backend.PublishCondition{Once: true}
		}
		if c != backend.PublishConditionFromContext(msg.Context()) {
			msg.SetContext(backend.WithPublishCondition(msg.Context(), c))
		}
	}
}

// report writes the results of a publish that has ended with err.
func (o *outgoing) report(msgs []*message.Message, err error) {
	for i, r := range o.results[:min(len(o.results), len(msgs))] {
		*r = resultOf(msgs[i].Context(), msgs[i].UUID, err)
	}
}

// contextError returns an error that matches both why ctx ended and how, or nil if it
// has not.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}
