package memory_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/ezq-go/ezq/backend/memory"
)

// Watermill's own suite. Publisher and subscriber close separately, and queues
// that are made one after another share their messages, as with a real broker.

func TestWatermillOrdered(t *testing.T) {
	t.Parallel()
	suite(t, memory.Config{MaxInFlight: 1, DrainTimeout: time.Second}, tests.Features{
		Persistent:                          true,
		GuaranteedOrder:                     true,
		GuaranteedOrderWithSingleSubscriber: true,
	})
}

func TestWatermillConcurrent(t *testing.T) {
	t.Parallel()
	suite(t, memory.Config{MaxInFlight: 100, DrainTimeout: time.Second}, tests.Features{Persistent: true})
}

func suite(t *testing.T, config memory.Config, features tests.Features) {
	broker := memory.New(&config)
	open := func(*testing.T) (message.Publisher, message.Subscriber) {
		return broker.Connect(&config), broker.Connect(&config)
	}
	tests.TestPubSub(t, features, open, nil)
}
