package ezq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// ID gives the event its ID, which handlers read from [Meta], and which is stored once: if the
// topic got an event with this ID within the window of the backend, a day by default, nothing
// is stored, and Publish returns nil. So a publish whose outcome is unknown can be repeated
// until it succeeds:
//
//	err := ezq.Publish(ctx, client, InvoiceSent{Number: 7}, ezq.ID("invoice-7"))
//
// An ID is not empty, has at most 255 bytes, and is UTF-8 without NUL. PGMQ refuses one that is
// made up of the name of a queue of the topic, a slash and a number, as "orders/7" is in orders. For [PublishBatch] use
// [IDs]. ID excludes [Unique], [Replace] and [Debounce].
func ID(id string) PublishOption { return IDs(id) }

// IDs is [ID] for [PublishBatch]: one for each event, in their order. Of several events with one
// ID, the first is stored.
func IDs(ids ...string) PublishOption {
	return publishOption(func(o *outgoing) error {
		if o.ids != nil {
			return errors.New("ID was used before: give each event one ID")
		}
		o.ids = append([]string{}, ids...)
		if slices.Contains(ids, "") {
			return errors.New("the ID is empty: leave ID out, and the event gets one")
		}
		return nil
	})
}

// Unique stores the event unless another one of the topic that was published with this key
// waits, is being handled, or is to be handled again. If there is one, nothing is stored, and
// Publish returns nil; [ResultTo] tells which one is there. The key is free when that event is
// done, or is a dead letter.
//
// An event that comes while another one is being handled is not stored either. If it says
// that something has changed, which that handler may have read before, use [Replace].
//
// An event that waits and has expired, as [Expires] says, keeps none out. One that has not yet
// does, also if the event would expire later: use [Replace] then, with which it expires when it says itself.
//
// Each group of the topic has keys of its own. A key is not empty, has at most 255 bytes, and is
// UTF-8 without NUL. Unique excludes [ID], [Replace] and [Debounce]. All but ID are for one event:
// [PublishBatch] refuses them.
func Unique(key string) PublishOption {
	return condition(key, false, 0)
}

// Replace puts the event in the place of another one of the topic with this key that no
// consumer has received yet; one that was released or snoozed was received. The event keeps the
// time at which the other one was to be delivered, which no handler ever sees. If there is none,
// the event is stored as a new one, also beside one that is being handled or comes again, and
// beside one that is due later than the event by itself and in more than
// [backend.MaxReplaceWait], a year. With [Expires], the time of the other one may be too late
// for it.
//
// The rules for keys are those of [Unique].
func Replace(key string) PublishOption {
	return condition(key, true, 0)
}

// Debounce is [Replace] with a clock that starts again: the event is delivered when its own
// [Delay] or [At] says, but is due no later than longest after the first of the events that
// have replaced each other was published.
//
//	ezq.Publish(ctx, client, CartChanged{Cart: 7}, ezq.Delay(5*time.Second), ezq.Debounce("cart-7", time.Minute))
//
// longest is positive, and there is a Delay or At.
func Debounce(key string, longest time.Duration) PublishOption {
	if longest <= 0 {
		return publishOption(func(*outgoing) error {
			return fmt.Errorf("Debounce: the longest time is %v: use a positive one, or Replace", longest)
		})
	}
	return condition(key, true, longest)
}

func condition(key string, replace bool, longest time.Duration) PublishOption {
	return publishOption(func(o *outgoing) error {
		switch {
		case key == "":
			return errors.New("the key is empty: give events that are about the same thing the same key")
		case o.condition != nil:
			return errors.New("Unique, Replace and Debounce exclude each other, and each counts once")
		}
		o.condition = &backend.PublishCondition{UniqueKey: key, Replace: replace, Debounce: longest} // for this publish alone
		return nil
	})
}

// PublishResult is what became of one event: see [ResultTo].
type PublishResult struct {
	// ID is that of the event which is in the topic: of the published one, or of the one that
	// was there instead. If the publish failed, it is that of the event that was to be stored.
	ID string

	// Stored reports whether this publish has stored the event, as a new one or in the place of
	// another; in a transaction, once that commits. It is false if the ID or the key had it
	// left out, and after an error, also where the outcome is unknown.
	Stored bool

	// Replaced is the ID of the event in whose place this one is, or empty.
	Replaced string
}

// ResultTo writes what became of the events into results, one for each, in their order. It
// works on every publisher, also without a condition.
//
//	var result ezq.PublishResult
//	err := ezq.Publish(ctx, client, SyncRequested{Customer: 7}, ezq.Unique("customer-7"), ezq.ResultTo(&result))
//
// A publish writes them before it returns; it leaves those alone that are more than its events.
// Fewer are an error, and nothing is published.
func ResultTo(results ...*PublishResult) PublishOption {
	return publishOption(func(o *outgoing) error {
		for _, r := range results {
			if r == nil {
				return errors.New("ResultTo: a result is nil")
			}
		}
		o.results = results
		return nil
	})
}

func resultOf(ctx context.Context, id string, err error) PublishResult {
	if err != nil {
		return PublishResult{ID: id}
	}
	switch found, _ := backend.PublishConditionFromContext(ctx).Result(); found.Outcome {
	case backend.PublishExisted:
		return PublishResult{ID: found.ID}
	case backend.PublishReplaced:
		return PublishResult{ID: id, Stored: true, Replaced: found.ID}
	default:
		return PublishResult{ID: id, Stored: true}
	}
}
