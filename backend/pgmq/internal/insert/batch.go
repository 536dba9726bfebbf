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
	for i, msg := range msgs {
		if err := r.set(i, msg, maxPayload); err != nil {
			return Batch{}, err
		}
	}
	return r, r.size.check()
}

// Len returns how many messages there are.
func (r *Batch) Len() int { return len(r.Messages) }

func (r *Batch) append(other Batch) {
	r.Messages = append(r.Messages, other.Messages...)
	r.Headers = append(r.Headers, other.Headers...)
	r.Delays = append(r.Delays, other.Delays...)
	r.Times = append(r.Times, other.Times...)
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
