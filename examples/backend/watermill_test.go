package backend_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/ezq-go/ezq/examples/backend/step3"
)

// Watermill's own suite looks at the two halves, and at much in parallel; it knows neither
// delays nor leases.
func TestLastStep_PassesWatermillSuite(t *testing.T) {
	t.Parallel()
	broker := step3.NewBroker()
	open := func(group string) (message.Publisher, message.Subscriber) {
		config := step3.Config{Group: group, InFlight: 1}
		return broker.Open(config), broker.Open(config)
	}
	tests.TestPubSub(t,
		tests.Features{
			ConsumerGroups: true, Persistent: true, GuaranteedOrder: true, GuaranteedOrderWithSingleSubscriber: true,
		},
		func(*testing.T) (message.Publisher, message.Subscriber) { return open("") },
		func(_ *testing.T, group string) (message.Publisher, message.Subscriber) { return open(group) },
	)
}
