package ezqtest

import (
	"errors"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Tx stands in for a transaction where there is no database: its messages are
// published when it is committed, and never if it is not. Code that runs in both
// takes a function like
//
//	transact func(ctx context.Context, do func(events message.Publisher) error) error
//
// which is a transaction and pgmq's client.WithTx(tx) in production, and in a test
//
//	func(_ context.Context, do func(events message.Publisher) error) error {
//		tx := ezqtest.Begin(client)
//		if err := do(tx); err != nil {
//			return err
//		}
//		return tx.Commit()
//	}
//
// TestTx_PublishesOnCommit in this directory does so. A
// test that has a database needs no Tx: see [RunOn].
type Tx struct {
	publisher message.Publisher

	mu        sync.Mutex
	pending   []publication
	committed bool
}

type publication struct {
	topic string
	msgs  []*message.Message
}

// Begin returns a Tx that publishes with publisher.
func Begin(publisher message.Publisher) *Tx { return &Tx{publisher: publisher} }

var errCommitted = errors.New("ezqtest: the transaction has been committed")

// Publish keeps the messages until Commit. After that it returns an error, and for messages that no backend takes, as
// one whose ID is no text: then it keeps none of the call. An [ezq.ResultTo] says
// that each event is stored: only Commit finds out whether another one is there.
func (tx *Tx) Publish(topic string, msgs ...*message.Message) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.committed {
		return errCommitted
	}
	if err := check(topic, msgs); err != nil {
		return err
	}
	tx.pending = append(tx.pending, publication{topic, msgs})
	return nil
}

// check returns an error if no backend takes the messages, as a publish in a transaction of a database does.
func check(topic string, msgs []*message.Message) error {
	if err := backend.CheckTopic(topic); err != nil {
		return err
	}
	for _, msg := range msgs {
		if msg == nil {
			return &backend.RefusedError{What: "the message", Reason: "it is nil", Remedy: "publish what message.NewMessage returns"}
		}
		if err := backend.CheckHeaders(msg.UUID, msg.Metadata); err != nil {
			return err
		}
		if _, _, err := backend.DelayOf(msg); err != nil {
			return err
		}
	}
	_, err := backend.PublishConditionsOf(msgs)
	return err
}

// Commit publishes the messages in the order of Publish. A second Commit returns an error.
func (tx *Tx) Commit() error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.committed {
		return errCommitted
	}
	tx.committed = true
	for _, p := range tx.pending {
		if err := tx.publisher.Publish(p.topic, p.msgs...); err != nil {
			return err
		}
	}
	return nil
}

// Features are those of the publisher: see [backend.Features].
func (tx *Tx) Features() backend.Features { return backend.FeaturesOf(tx.publisher) }

// Close implements [message.Publisher]. The publisher stays open, and nothing is
// published.
func (tx *Tx) Close() error { return nil }
