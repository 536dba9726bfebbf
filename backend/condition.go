package backend

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// PublishCondition is a condition for storing a message. It travels in the context of
// the message: see [WithPublishCondition]. A backend that promises Conditions decides and
// stores in one step, whatever is published at once, and reports the result.
type PublishCondition struct {
	// Once asks for the message to be stored once under its UUID: nothing is stored if the
	// topic got another one with Once and this UUID within the window of the backend. What
	// became of that one since does not matter. Of several messages with one UUID in a publish,
	// the first is stored.
	Once bool

	// UniqueKey asks for the message to be stored unless another one of this key waits, is being
	// handled, or is to be handled again. Messages that were published without a condition
	// have no key, and so do those that have expired, as [ExpiresAt] says by the clock of the
	// backend, unless one is being handled or is invisible after a failure: a backend that marks nothing
	// while it is handled may miss that. A topic's groups have keys of their own. A message with a key is
	// published alone. Of several that are there, one is told.
	UniqueKey string

	// Replace asks for a message of UniqueKey that waits, and has never been delivered, to be
	// replaced: it gets the UUID, the payload and the metadata of this one. Of several the
	// newest is replaced. If there is none, this one is stored, also beside one that has been
	// delivered, whatever has become of that delivery, and beside one that is due later than
	// this one by itself and in more than [MaxReplaceWait].
	Replace bool

	// Debounce, with Replace, is the longest time from the moment at which the message that is
	// replaced was first stored, or this one is, until it becomes visible. Within that, the
	// time for which this one asks replaces that of the message. With 0 the message keeps its
	// time.
	Debounce time.Duration

	result atomic.Pointer[PublishResult]
}

// MaxReplaceWait is how long a message may still have to wait that another one replaces, with
// Replace, whose own time is earlier. The program that wrote it may have meant it to come never,
// and so would what is in its place.
const MaxReplaceWait = 366 * 24 * time.Hour

// PublishResult is what became of a message that was published on a condition.
type PublishResult struct {
	Outcome PublishOutcome

	// ID is the UUID of the message that was there: of the one that kept this one out, or in
	// whose place it is now. With [PublishStored] there was none, and it is that of the message
	// itself.
	ID string
}

// PublishOutcome is the kind of a [PublishResult].
type PublishOutcome uint8

const (
	// PublishStored means that the message is a new one in the queue.
	PublishStored PublishOutcome = iota

	// PublishExisted means that nothing was stored, because another message is there, or was.
	PublishExisted

	// PublishReplaced means that a message that waited is now this one.
	PublishReplaced
)

// String returns the name of the outcome in lower case.
func (o PublishOutcome) String() string {
	return valueName("outcome", o, []string{PublishStored: "stored", PublishExisted: "existed", PublishReplaced: "replaced"})
}

// check returns a *[RefusedError] if c cannot be kept for a message with the given UUID, of so many
// messages.
func (c *PublishCondition) check(uuid string, messages int) error {
	what, reason, remedy := "the condition", "", ""
	switch {
	case !c.Once && c.UniqueKey == "" && !c.Replace:
		reason, remedy = "it is empty", "set Once or a UniqueKey, or leave the condition out"
	case c.Once && uuid == "":
		what, reason, remedy = "the UUID", "it is empty", "give the message one, which is stored once"
	case c.Once && (c.UniqueKey != "" || c.Replace):
		reason, remedy = "Once and UniqueKey exclude each other", "choose one: a key lasts until its message is done, an ID for a time"
	case c.UniqueKey != "" && messages > 1:
		reason, remedy = "a message with a UniqueKey is published alone, and these are "+strconv.Itoa(messages), "publish them one by one"
	case c.Replace && c.UniqueKey == "":
		reason, remedy = "Replace has no UniqueKey", "set that of the messages that replace each other"
	case c.Debounce < 0:
		reason, remedy = fmt.Sprintf("Debounce is negative: %v", c.Debounce), "use 0, or a positive duration"
	case c.Debounce > 0 && !c.Replace:
		reason, remedy = "Debounce is for messages that replace each other", "set Replace"
	case len(c.UniqueKey) > MaxID:
		what, reason, remedy = "the key", tooLong(len(c.UniqueKey), MaxID), "use a shorter one, such as a digest of it"
	case !isText(c.UniqueKey):
		what, reason, remedy = "the key", "it is not UTF-8 without NUL", "encode it"
	default:
		return nil
	}
	return &RefusedError{What: what, Reason: reason, Remedy: remedy}
}

// Report is for backends, which call it before a publish without an error returns.
func (c *PublishCondition) Report(r PublishResult) { c.result.Store(&r) }

// Result returns what the backend has reported; ok is false if nothing. c may be nil, as it is for
// a message without a condition: nothing is reported then, and the message is stored.
func (c *PublishCondition) Result() (r PublishResult, ok bool) {
	if c == nil {
		return PublishResult{}, false
	}
	if p := c.result.Load(); p != nil {
		return *p, true
	}
	return PublishResult{}, false
}

type conditionKey struct{}

// WithPublishCondition returns a context that carries c, for one message.
func WithPublishCondition(ctx context.Context, c *PublishCondition) context.Context {
	return context.WithValue(ctx, conditionKey{}, c)
}

// PublishConditionFromContext returns the condition in ctx, the context of a message that is
// published, or nil.
func PublishConditionFromContext(ctx context.Context) *PublishCondition {
	c, _ := ctx.Value(conditionKey{}).(*PublishCondition)
	return c
}

// PublishConditionsOf returns the condition of each message that is published in one call, nil for
// those that have none. It returns nil if none has one, and a *[RefusedError] if one cannot be kept.
// Backends call it before they store anything.
func PublishConditionsOf(msgs []*message.Message) (conditions []*PublishCondition, err error) {
	for i, msg := range msgs {
		if msg == nil {
			continue
		}
		c := PublishConditionFromContext(msg.Context())
		if c == nil {
			continue
		}
		if err := c.check(msg.UUID, len(msgs)); err != nil {
			return nil, err
		}
		if conditions == nil {
			conditions = make([]*PublishCondition, len(msgs))
		}
		conditions[i] = c
	}
	return conditions, nil
}
