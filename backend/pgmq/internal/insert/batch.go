// Package insert encodes messages for publishing, and lets concurrent publishes share a statement.
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

// Batch is messages as the columns of an
type Batch struct {
	Messages []string
	Headers  []string
	Delays   []int64 // µs
	Times    []*time.Time
	size     batchSize

	Conditions []*backend.PublishCondition // of each message, or nil; none if none has one
	IDs        []string                    // of the messages, where there are conditions
}

// Encode turns messages into rows. It refuses what could not be stored, or not
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
	r := Batch{
		Messages: make([]string, len(msgs)),
		Headers:  make([]string, len(msgs)),
		Delays:   make([]int64, len(msgs)),
		Times:    make([]*time.Time, len(msgs)),
	}
	var err error
	if r.Conditions, err = backend.PublishConditionsOf(msgs); err != nil {
		return Batch{}, &fault.Error{Kind: fault.ErrInvalidMessage, Cause: err}
	}
	if r.Conditions != nil {
		r.IDs = make([]string, len(msgs))
	}
	for i, msg := range msgs {
		if err := r.set(i, msg, maxPayload); err != nil {
			return Batch{}, err
		}
	}
	return r, r.size.check()
}

// Len returns how many messages there are.
func (r *Batch) Len() int { return len(r.Messages) }

// Keyed is the condition of a message with a key, which is published alone, or nil.
func (r *Batch) Keyed() *backend.PublishCondition {
	if len(r.Conditions) == 1 && r.Conditions[0].Key != "" {
		return r.Conditions[0]
	}
	return nil
}

// Report tells the conditions what became of their messages, and returns whether a queue has changed.
func (r *Batch) Report(results []backend.PublishResult) (changed bool) {
	for i, condition := range r.Conditions {
		changed = changed || results[i].Outcome != backend.Existed
		if condition != nil {
			condition.Report(results[i])
		}
	}
	return changed
}

func (r *Batch) append(other Batch) {
	r.Messages = append(r.Messages, other.Messages...)
	r.Headers = append(r.Headers, other.Headers...)
	r.Delays = append(r.Delays, other.Delays...)
	r.Times = append(r.Times, other.Times...)
	r.Conditions = append(r.Conditions, other.Conditions...)
	r.IDs = append(r.IDs, other.IDs...)
	r.size = r.size.plus(other.size)
}

func (r *Batch) set(i int, msg *message.Message, maxPayload int) error {
	if len(msg.Payload) > maxPayload {
		return payloadTooLarge(len(msg.Payload), maxPayload)
	}
	delay, at, err := backend.DelayOf(msg)
	if err != nil {
		return &fault.Error{Kind: fault.ErrInvalidMessage, Cause: err, Remedy: "set it with ezq.Delay or backend.SetDelay"}
	}
	r.Delays[i] = delay.Microseconds()
	metadata := msg.Metadata
	if delay > 0 || !at.IsZero() {
		metadata = maps.Clone(metadata)
		backend.ClearDelay(metadata)
	}
	if !at.IsZero() {
		r.Times[i] = &at
	}
	if r.IDs != nil {
		r.IDs[i] = msg.UUID
	}
	var encoding string
	r.Messages[i], encoding = codec.EncodePayload(metadata, msg.Payload)
	r.Headers[i], err = codec.EncodeHeaders(msg.UUID, metadata, encoding)
	r.size = r.size.plus(batchSize{messages: 1, bytes: len(r.Messages[i]) + len(r.Headers[i])})
	return err
}

func payloadTooLarge(size, limit int) error {
	return &fault.Error{
		Kind:   fault.ErrTooLarge,
		Cause:  fmt.Errorf("the payload has %d bytes, and the limit is %d", size, limit),
		Remedy: "store it elsewhere and send a reference, or raise MaxPayloadBytes",
	}
}
