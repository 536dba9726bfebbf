package ezq

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"

	"github.com/ezq-go/ezq/backend"
)

// A PublishOption changes how events are published.
type PublishOption interface{ applyToPublish(*outgoing) error }

// A BatchOption changes how one handler of batches is attached to a router. Every
// [HandleOption] is one.
type BatchOption interface{ applyToBatch(*route) }

// A HandleOption changes how one handler is attached to a router, for single events or
// for batches.
type HandleOption interface {
	BatchOption
	applyToHandle(*route)
}

// An Option is both a [PublishOption] and a [HandleOption].
type Option interface {
	PublishOption
	HandleOption
}

// Topic sends events to, or receives them from, the named topic instead of
// [DefaultTopic]. The backend defines which names are valid; none is empty. A handler's may be a pattern of topics, if
// the backend takes those: [Meta].PublishedTo is then the topic of the event.
func Topic(name string) Option { return topicOption(name) }

type topicOption string

func (t topicOption) applyToPublish(o *outgoing) error {
	if o.topic = string(t); o.topic == "" {
		return fmt.Errorf("the topic is empty: name one, or leave Topic out for %q", DefaultTopic)
	}
	return nil
}

func (t topicOption) applyToHandle(rt *route) { rt.topic = string(t) }

func (t topicOption) applyToBatch(rt *route) { t.applyToHandle(rt) }

// Delay hides events from every handler until d has passed, by the clock and at the
// resolution of the backend. It must not be negative, and excludes [At].
func Delay(d time.Duration) PublishOption {
	return publishOption(func(o *outgoing) error {
		if d < 0 {
			return fmt.Errorf("the delay %v is negative", d)
		}
		o.delay, o.delayed = d, true
		return nil
	})
}

// At hides events from every handler until t. If t has passed, they are
// delivered at once. It must not be the zero Time, its year is 0 to 9999, and it
// excludes [Delay].
func At(t time.Time) PublishOption {
	return publishOption(func(o *outgoing) error {
		if t.IsZero() {
			return errors.New("At: the time is zero")
		}
		if y := t.UTC().Year(); y < 0 || y > 9999 { // RFC 3339 cannot say it
			return fmt.Errorf("At: year %d is out of range [0, 9999]", y)
		}
		o.at = t
		return nil
	})
}

// Expires gives events a time after which they are worthless: d from now, by the clock of the
// publisher, and by those of the consumers. An event that comes to a handler later than that is not
// handled. It becomes a dead letter, with an [ExpiredError] as its reason, or it is acked, if
// TopicConfig.DropExpired says so. A batch is handled without those that have expired while it waited.
// A handler that has begun is not interrupted; a later attempt is not made. An event that waits and has expired keeps no
// other one with its key of [Unique] out.
//
// d is positive, and longer than the [Delay]. The time is the header "x-ezq-expires-at", which [Meta] has too;
// one that cannot be read does not count. A dead letter loses it when it is redriven, and so does an event
// that is replayed from an archive: they are handled, however late.
func Expires(d time.Duration) PublishOption {
	return publishOption(func(o *outgoing) error {
		if d <= 0 {
			return fmt.Errorf("Expires: %v is not positive: leave it out if the event does not expire", d)
		}
		o.expiry = d
		return nil
	})
}

// Header attaches a header, which handlers read from [Meta]. A second one of
// the same name replaces the first.
//
// Name and value are UTF-8 without NUL, and the name is not empty. Names
// that start with "ezq_", "content-type" and Watermill's delay keys are reserved, and so are
// those that dead letters have: "poisoned_at", and names that end with "_poisoned". An error
// about a header is a *[backend.RefusedError].
func Header(name, value string) PublishOption {
	return publishOption(func(o *outgoing) error {
		if err := checkHeader(name, value); err != nil {
			return err
		}
		o.headers = append(o.headers, header{name, value})
		return nil
	})
}

func checkHeader(name, value string) error {
	reason, remedy := "", "choose another one"
	switch {
	case name == "":
		reason = "it has no name"
	case !isText(name):
		reason = "the name is not UTF-8 without NUL"
	case !isText(value):
		reason, remedy = "the value is not UTF-8 without NUL", "encode it"
	case strings.HasPrefix(name, reservedPrefix), name == contentType:
		reason = "the name is reserved for ezq"
	case strings.HasSuffix(name, poisonedSuffix), name == backend.DeadLetterAt:
		reason = "the name is reserved for dead letters, which the event would pass for"
	case name == delay.DelayedForKey, name == delay.DelayedUntilKey:
		reason, remedy = "the name is Watermill's, for delays", "use Delay or At"
	case (name == correlationHeader || name == causationHeader) && len(value) > backend.MaxID:
		reason = fmt.Sprintf("the value has %d bytes, and the limit is %d", len(value), backend.MaxID)
		remedy = "use a shorter one, such as a digest of it"
	default:
		return nil
	}
	return &backend.RefusedError{What: fmt.Sprintf("header %.100q", name), Reason: reason, Remedy: remedy}
}

// Key names what events are about, such as an order or a customer. A router
// handles the events of one topic that have the same key one at a time, in the
// order in which the backend delivers them. Events with other keys, and those
// without one, are handled concurrently. The key is not empty, and UTF-8 without NUL.
//
// An event that fails comes back later, and those behind it do not wait for it.
// Nor do other processes: to keep the order across them, run one. No two events of a
// key are in one batch of [HandleBatch].
//
// The router parks events that wait for their key, up to ten times Config.Concurrency;
// beyond that it fetches no more of the topic until some have had their turn. Another
// process could only handle them beside the one that they wait for. When the router
// stops, or the topic is paused, they are released to their places in the queue, as if
// they had not been delivered. An [EndEvent] releases none: they came before it, and
// are handled.
func Key(key string) PublishOption {
	return publishOption(func(o *outgoing) error {
		if key == "" {
			return errors.New("the key is empty: leave Key out")
		}
		return Header(keyHeader, key).applyToPublish(o)
	})
}

type publishOption func(*outgoing) error

func (f publishOption) applyToPublish(o *outgoing) error { return f(o) }
