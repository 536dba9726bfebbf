package pgmq

import (
	"fmt"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// insertBatch is messages as the columns of an insert.
type insertBatch struct {
	messages []string
	headers  []string
	delays   []int64 // µs
	times    []*time.Time
	size     batchSize

	conditions []*backend.PublishCondition // of each message, or nil; none if none has one
	ids        []string                    // of the messages, where there are conditions
}

// encode turns messages into rows. It refuses what could not be stored, or not
// be received as it was sent, before anything is sent.
func encode(msgs []*message.Message, maxPayload int) (insertBatch, error) {
	raw := batchSize{messages: len(msgs)}
	for i, msg := range msgs {
		if msg == nil {
			return insertBatch{}, &Error{
				Kind: ErrInvalidMessage, Cause: fmt.Errorf("number %d of %d is nil", i+1, len(msgs)), Remedy: "publish what message.NewMessage returns",
			}
		}
		raw.bytes += len(msg.Payload)
	}
	if err := raw.check(); err != nil {
		return insertBatch{}, err // before it takes as much memory again
	}
	r := insertBatch{
		messages: make([]string, len(msgs)),
		headers:  make([]string, len(msgs)),
		delays:   make([]int64, len(msgs)),
		times:    make([]*time.Time, len(msgs)),
	}
	var err error
	if r.conditions, err = backend.PublishConditionsOf(msgs); err != nil {
		return insertBatch{}, &Error{Kind: ErrInvalidMessage, Cause: err}
	}
	if r.conditions != nil {
		r.ids = make([]string, len(msgs))
	}
	for i, msg := range msgs {
		if err := r.set(i, msg, maxPayload); err != nil {
			return insertBatch{}, err
		}
	}
	return r, r.size.check()
}

func (r *insertBatch) len() int { return len(r.messages) }

func (r *insertBatch) append(other insertBatch) {
	r.messages = append(r.messages, other.messages...)
	r.headers = append(r.headers, other.headers...)
	r.delays = append(r.delays, other.delays...)
	r.times = append(r.times, other.times...)
	r.size = r.size.plus(other.size)
}

func (r *insertBatch) set(i int, msg *message.Message, maxPayload int) error {
	if len(msg.Payload) > maxPayload {
		return payloadTooLarge(len(msg.Payload), maxPayload)
	}
	delay, at, err := backend.DelayOf(msg)
	if err != nil {
		return &Error{Kind: ErrInvalidMessage, Cause: err, Remedy: "set it with ezq.Delay or backend.SetDelay"}
	}
	r.delays[i] = delay.Microseconds()
	metadata := msg.Metadata
	if delay > 0 || !at.IsZero() {
		metadata = maps.Clone(metadata)
		backend.ClearDelay(metadata)
	}
	if !at.IsZero() {
		r.times[i] = &at
	}
	if r.ids != nil {
		r.ids[i] = msg.UUID
	}
	var encoding string
	r.messages[i], encoding = encodePayload(metadata, msg.Payload)
	r.headers[i], err = encodeHeaders(msg.UUID, metadata, encoding)
	r.size = r.size.plus(batchSize{messages: 1, bytes: len(r.messages[i]) + len(r.headers[i])})
	return err
}

// keyed is the condition of a message with a key, which is published alone, or nil.
func (r *insertBatch) keyed() *backend.PublishCondition {
	if len(r.conditions) == 1 && r.conditions[0].Key != "" {
		return r.conditions[0]
	}
	return nil
}

// report tells the conditions what became of their messages, and returns whether the queue has changed.
func (r *insertBatch) report(results []backend.PublishResult) (changed bool) {
	for i, condition := range r.conditions {
		changed = changed || results[i].Outcome != backend.Existed
		if condition != nil {
			condition.Report(results[i])
		}
	}
	return changed
}

func payloadTooLarge(size, limit int) error {
	return &Error{
		Kind:   ErrTooLarge,
		Cause:  fmt.Errorf("the payload has %d bytes, and the limit is %d", size, limit),
		Remedy: "store it elsewhere and send a reference, or raise MaxPayloadBytes",
	}
}
