package backend

import (
	"context"
	"fmt"
	"math"
	"time"
)

// Inspector tells how the queues of a backend are doing, whatever program has made them, and what waits in them. Its methods
// change nothing and take no lease. What they cost is bounded, however many messages there are. They may be called concurrently.
//
// If a method does not look at everything, it returns what it has found and an error, which is a *[TruncatedError] if
// there is too much, or too little time: ctx bounds that.
type Inspector interface {
	// QueueStates returns the state of each queue, in the order of their topics and groups: those of topics, of groups and of
	// dead letters.
	QueueStates(ctx context.Context) ([]QueueState, error)

	// Bindings returns what gets a copy of the messages that are published to topics, in the order of the topics: each consumer
	// group, and each queue that another program has bound.
	Bindings(ctx context.Context) ([]Binding, error)

	// AllPauses returns the pauses of all topics that hold now, in the order of their names: see [Pauser].
	AllPauses(ctx context.Context) ([]Paused, error)

	// Peek returns the messages of one queue in the order in which they are due: first those that wait, the longest first, then those that are
	// delayed or leased. With the After of the last one, the next call returns the next ones; what is delivered, acked
	// or moved meanwhile may be missing or come twice. A queue that does not exist has no messages, which is no error.
	Peek(ctx context.Context, topic string, p Peek) ([]Peeked, error)
}

// QueueState is how a queue was doing at one moment, by the clock of the backend.
type QueueState struct {
	Queue string // its name; in memory, that of memory.GroupQueue

	// Topic and Group say whose messages it holds, as far as the backend knows. The topic of dead letters has a name with
	// [DeadLetterSuffix] at its end.
	Topic, Group string

	// Waiting is how many messages are due, those among them that a consumer has locked in a transaction. Invisible is how many are
	// leased, delayed, or wait after a failure: backends cannot tell these apart. Both are counted up to [MaxQueueCount];
	// there are more if they are Capped.
	Waiting, Invisible             int
	WaitingCapped, InvisibleCapped bool

	// Oldest is how long the message has waited that has waited longest: the lag of the consumers. 0 if none waits.
	Oldest time.Duration

	// NextDue is when the next message becomes due of those that are not: a delay or a lease ends. The zero Time if there is none.
	NextDue time.Time

	// Added and Removed are how many messages were ever stored in the queue and removed from it, since the backend
	// began to count: the difference of two states is what came and went between them. They are a statistic, which may lag behind: a second or
	// two while the programs publish and consume, and longer while these rest. It may begin anew, as after a crash. Both are -1 if the backend does
	// not know.
	Added, Removed int64
}

// MaxQueueCount is how far the messages of a queue are counted for a [QueueState].
const MaxQueueCount = 10_000

// Binding is where copies of the messages go that are published to a topic.
type Binding struct {
	Topic string // a topic, or a pattern: see [IsPattern]
	Group string // the consumer group, or "" if the queue is none of a group that ezq knows

	Queue   string
	Missing bool // the queue does not exist: the binding is left over, and gets nothing
}

const (
	// DefaultPeekLimit is the Limit of a [Peek] that has none.
	DefaultPeekLimit = 20

	// MaxPeekLimit is the largest Limit of a [Peek].
	MaxPeekLimit = 100

	// MaxPeekPayloads is how many bytes the payloads have together that a [Peek] returns. Of the messages behind these, as of one whose payload
	// is larger than [MaxFoundPayload], there is the Size alone.
	MaxPeekPayloads = 1 << 20
)

// Peek chooses messages of a queue by their place in it.
type Peek struct {
	Group string // the consumer group whose queue it is; "" for the topic's own
	After string // the After of the message behind which to begin; "" for the first ones
	Limit int    // how many messages to return at most; 0 means [DefaultPeekLimit]
}

// Check returns a *[RefusedError] if p cannot choose any message. Backends call it before they look.
func (p Peek) Check() error {
	refuse := func(reason, remedy string) error {
		return &RefusedError{What: "the peek", Reason: reason, Remedy: remedy}
	}
	switch {
	case p.Limit < 0 || p.Limit > MaxPeekLimit:
		return refuse(fmt.Sprintf("the limit is %d", p.Limit), fmt.Sprintf("set it to 1 to %d, or to 0 for the default", MaxPeekLimit))
	case p.Group != "" && CheckTopic(p.Group) != nil:
		return refuse("no group has the name", "check the Group")
	}
	if _, err := ParsePeekPlace(p.After); err != nil {
		return refuse("After is not what a message has had", "set it to the After of a message, or to \"\" for the first ones")
	}
	return nil
}

// Peeked is a message that was found by its place in a queue. Its Place is [InTopic], [InGroup] or [InDeadLetters].
type Peeked struct {
	Found
	After string // for [Peek]
}

// PeekPlace is the place of a message in a queue: backends make the After of a [Peeked] of it.
type PeekPlace struct {
	Due int64 // when it is due, in microseconds since 1970; the smallest and the largest number for always and never
	Row int64 // of those that are due then
}

// FirstPeekPlace returns the place before all others.
func FirstPeekPlace() PeekPlace { return PeekPlace{math.MinInt64, math.MinInt64} }

// String returns the place as [ParsePeekPlace] reads it.
func (p PeekPlace) String() string { return fmt.Sprintf("%d.%d", p.Due, p.Row) }

// ParsePeekPlace reads a place. "" is the one before all others.
func ParsePeekPlace(text string) (p PeekPlace, err error) {
	if text == "" {
		return FirstPeekPlace(), nil
	}
	if _, err = fmt.Sscanf(text, "%d.%d", &p.Due, &p.Row); err == nil && p.String() != text {
		err = fmt.Errorf("%.100q is no place in a queue", text)
	}
	return p, err
}
