// Package insert encodes messages for publishing, and lets concurrent publishes share a statement. What it
// refuses was not sent, and each publish gets the result of its own messages. The statement itself is
// the caller's.
package insert

import (
	"fmt"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/codec"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// Batch is messages as the columns of an INSERT.
type Batch struct {
	Messages []string
	Headers  []string
	Delays   []int64 // µs
	Times    []*time.Time
	size     batchSize

	Conditions []*backend.PublishCondition // of each message, or nil; none if none has one
	IDs        []string                    // of the messages, where there are conditions
	Taken      []*bool                     // of the messages, where there are keys: set by Report, for the call that waits
}

// Encode returns messages as a batch. It refuses what could not be stored, or not
// be received as it was sent, before anything is sent.
func Encode(msgs []*message.Message, maxPayload int) (Batch, error) {
	raw := batchSize{messages: len(msgs)}
	for i, msg := range msgs {
		if msg == nil {
			return Batch{}, &fault.Error{
				Kind: fault.ErrInvalidMessage, Cause: fmt.Errorf("number %d of %d is nil", i+1, len(msgs)), Remedy: "publish what message.NewMessage returns",
			}
		}
		raw.bytes += len(msg.Payload)
	}
	if err := raw.check(); err != nil {
		return Batch{}, err // before it takes as much memory again
	}
	b := Batch{
		Messages: make([]string, len(msgs)),
		Headers:  make([]string, len(msgs)),
		Delays:   make([]int64, len(msgs)),
		Times:    make([]*time.Time, len(msgs)),
	}
	var err error
	if b.Conditions, err = backend.PublishConditionsOf(msgs); err != nil {
		return Batch{}, &fault.Error{Kind: fault.ErrInvalidMessage, Cause: err}
	}
	if b.Conditions != nil {
		b.IDs = make([]string, len(msgs))
	}
	for i, msg := range msgs {
		if err := b.set(i, msg, maxPayload); err != nil {
			return Batch{}, err
		}
	}
	return b, b.size.check()
}

// Len returns how many messages there are.
func (b *Batch) Len() int { return len(b.Messages) }

// IsKeyed reports whether the messages have keys. A call publishes a message with a key alone, and calls of one kind share a batch.
func (b *Batch) IsKeyed() bool {
	return len(b.Conditions) > 0 && b.Conditions[0] != nil && b.Conditions[0].UniqueKey != ""
}

// Result is what became of a message.
type Result struct {
	backend.PublishResult
	Taken bool // another transaction has its key: it is not stored, and nothing is decided
}

// Report tells the conditions what became of their messages, and returns whether a queue has changed.
func (b *Batch) Report(results []Result) (changed bool) {
	for i, condition := range b.Conditions {
		if results[i].Taken {
			if b.Taken != nil {
				*b.Taken[i] = true
			}
			continue
		}
		changed = changed || results[i].Outcome != backend.PublishExisted
		if condition != nil {
			condition.Report(results[i].PublishResult)
		}
	}
	return changed
}

func (b *Batch) append(other Batch) {
	b.Messages = append(b.Messages, other.Messages...)
	b.Headers = append(b.Headers, other.Headers...)
	b.Delays = append(b.Delays, other.Delays...)
	b.Times = append(b.Times, other.Times...)
	b.Conditions = append(b.Conditions, other.Conditions...)
	b.IDs = append(b.IDs, other.IDs...)
	b.Taken = append(b.Taken, other.Taken...)
	b.size = b.size.plus(other.size)
}

// set encodes a message into element i of each column.
func (b *Batch) set(i int, msg *message.Message, maxPayload int) error {
	if len(msg.Payload) > maxPayload {
		return payloadTooLarge(len(msg.Payload), maxPayload)
	}
	delay, at, err := backend.DelayOf(msg)
	if err != nil {
		return &fault.Error{Kind: fault.ErrInvalidMessage, Cause: err, Remedy: "set it with ezq.Delay or backend.SetDelay"}
	}
	b.Delays[i] = delay.Microseconds()
	metadata := msg.Metadata
	if delay > 0 || !at.IsZero() {
		metadata = maps.Clone(metadata)
		backend.ClearDelay(metadata)
	}
	if !at.IsZero() {
		b.Times[i] = &at
	}
	if b.IDs != nil {
		b.IDs[i] = msg.UUID
	}
	var encoding string
	b.Messages[i], encoding = codec.EncodePayload(metadata, msg.Payload)
	b.Headers[i], err = codec.EncodeHeaders(msg.UUID, metadata, encoding)
	b.size = b.size.plus(batchSize{messages: 1, bytes: len(b.Messages[i]) + len(b.Headers[i])})
	return err
}

func payloadTooLarge(size, limit int) error {
	return &fault.Error{
		Kind:   fault.ErrTooLarge,
		Cause:  fmt.Errorf("the payload has %d bytes, and the limit is %d", size, limit),
		Remedy: "store it elsewhere and send a reference, or raise MaxPayloadBytes",
	}
}
