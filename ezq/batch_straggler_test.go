package ezq_test

import (
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// delaySecond is a middleware in which the second order waits for d before it goes on.
func delaySecond(d time.Duration) message.HandlerMiddleware {
	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if string(msg.Payload) == `{"_type":"OrderPlaced","ID":2}` {
				time.Sleep(d)
			}
			return next(msg)
		}
	}
}

func TestBatch_LastWaitsBrieflyForStragglers(t *testing.T) {
	for name, test := range map[string]struct {
		late time.Duration
		want []int
	}{
		"an event after 9 milliseconds is in the batch":      {9 * time.Millisecond, []int{2}},
		"an event after 11 milliseconds is in another batch": {11 * time.Millisecond, []int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				var got batches
				ezq.HandleBatch(router, func(_ context.Context, events []orderPlaced) error { got.add(events); return nil },
					ezq.Linger(time.Hour), ezq.Use(delaySecond(test.late)))
				publish(t, broker, orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{})
				require.NoError(t, router.Run(t.Context()))
				require.Equal(t, test.want, got.sizes())
				require.Empty(t, remaining(t, broker))
			})
		})
	}
}
