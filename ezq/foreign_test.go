package ezq_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// foreignSubscriber does not know ezq: its messages have contexts of their own, and its
// subscription ends a while after its context.
type foreignSubscriber struct {
	messages []*message.Message
	ends     time.Duration
}

func (f foreignSubscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	out := make(chan *message.Message, len(f.messages))
	for _, msg := range f.messages {
		out <- msg
	}
	context.AfterFunc(ctx, func() {
		time.Sleep(f.ends)
		close(out)
	})
	return out, nil
}

func (f foreignSubscriber) Close() error { return nil }

func TestInterruption_WorksWithoutBackendContext(t *testing.T) {
	bubble(t, func(t *testing.T, _ *memory.Broker) {
		msg := message.NewMessage("1", []byte(`{"_type":"OrderPlaced"}`))
		router := newRouter(foreignSubscriber{messages: []*message.Message{msg}}, ezq.Config{})
		var cause error
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			select {
			case <-ctx.Done():
			case <-time.After(time.Hour):
			}
			cause = context.Cause(ctx)
			return ctx.Err()
		})
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, router.Run(ctx), ezq.ErrDrainTimeout)
		require.ErrorIs(t, cause, ezq.ErrInterrupted)
		<-msg.Nacked()
	})
}

func TestRun_Waits15SecondsForSubscriptionEnd(t *testing.T) {
	for name, test := range map[string]struct {
		ends, waits time.Duration
		log         bool
	}{
		"a subscription that ends after 14 seconds": {ends: 14 * time.Second, waits: 14 * time.Second},
		"a subscription that ends after a minute":   {ends: time.Minute, waits: 15 * time.Second, log: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, _ *memory.Broker) {
				router, log := newLoggingRouter(foreignSubscriber{ends: test.ends})
				handle(router)
				start := time.Now()
				runFor(t, router, time.Second)
				require.Equal(t, time.Second+test.waits, time.Since(start))
				require.Equal(t, test.log, bytes.Contains(log.Bytes(), []byte("did not end its subscriptions in time")))
				time.Sleep(time.Minute)
			})
		})
	}
}
