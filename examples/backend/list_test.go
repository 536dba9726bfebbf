package backend_test

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/examples/backend/step1"
	"github.com/ezq-go/ezq/examples/backend/step2"
	"github.com/ezq-go/ezq/examples/backend/step3"
	"github.com/ezq-go/ezq/examples/backend/step4"
	"github.com/ezq-go/ezq/examples/backend/step5"
	"github.com/ezq-go/ezq/examples/backend/step6"
	"github.com/ezq-go/ezq/examples/backend/step7"
	"github.com/ezq-go/ezq/examples/backend/step8"
	"github.com/ezq-go/ezq/examples/backend/step9"
)

// steps is the way from the least to everything that needs no transactions.
func steps() []step {
	durable := conformance.Promises{Durable: true}
	ordered := durable
	ordered.Ordered = true
	delayed := ordered
	delayed.Delay, delayed.Redelay = true, true
	counted := delayed
	counted.Attempts, counted.Progress = true, true
	lettered := counted
	lettered.DeadLetter = true
	drained := lettered
	drained.Drain = true
	leased := drained
	leased.Lease = true
	grouped := leased
	grouped.Groups = true
	return []step{
		{"Step 1", conformance.Promises{}, openStep1, []string{
			// Subscriptions that have ended and others compete for what is left, and a message that
			// one of them has taken is lost.
			"delivery/an acked message is gone",
			"ordering/the order outlives a subscription",
			"groups/a group keeps its place",
			"stopping/Close loses nothing",
			"stopping/the end of a context loses nothing",
			"stopping/what was not handed over goes back",
			"router/a handled event is done",
			"control events/EndEvent ends after what came before it",
			"control events/EndEvent stops one router, once",
			"control events/InterruptEvent interrupts",
			"stopping a router/handlers finish",
			"stopping a router/who takes too long is interrupted",
			"stopping a router/a stop loses nothing",
		}},
		{"Step 2", durable, openStep2, nil},
		{"Step 3", ordered, openStep3, nil},
		{"Step 4", delayed, openStep4, nil},
		{"Step 5", counted, openStep5, nil},
		{"Step 6", lettered, openStep6, nil},
		{"Step 7", drained, openStep7, nil},
		{"Step 8", leased, openStep8, nil},
		{"Step 9", grouped, openStep9, nil},
	}
}

// groupsByChance are cases that hold without groups if one of two consumers happens to get
// everything.
func groupsByChance() []string {
	return []string{
		"groups/each group gets everything",
		"groups/a nack concerns its group",
		"groups/a group that lags holds up no other",
	}
}

// queue is what every step has.
type queue interface {
	message.Publisher
	message.Subscriber
}

// system is a broker whose processes are opened with open.
func system(open func(conformance.Options) queue) (*conformance.System, error) {
	return &conformance.System{
		Lease: time.Second, // nothing in the process needs one, so it is only what Hold is at least
		Connect: func(o conformance.Options) (*conformance.Peer, error) {
			q := open(o)
			return &conformance.Peer{Publisher: q, Subscriber: q}, nil
		},
	}, nil
}

func openStep1(context.Context) (*conformance.System, error) {
	broker := step1.NewBroker()
	return system(func(_ conformance.Options) queue { return broker.Open() })
}

func openStep2(context.Context) (*conformance.System, error) {
	broker := step2.NewBroker()
	return system(func(_ conformance.Options) queue { return broker.Open() })
}

func openStep3(context.Context) (*conformance.System, error) {
	broker := step3.NewBroker()
	return system(func(o conformance.Options) queue { return broker.Open(step3.Config{InFlight: o.InFlight}) })
}

func openStep4(context.Context) (*conformance.System, error) {
	broker := step4.NewBroker()
	return system(func(o conformance.Options) queue { return broker.Open(step4.Config{InFlight: o.InFlight}) })
}

func openStep5(context.Context) (*conformance.System, error) {
	broker := step5.NewBroker()
	return system(func(o conformance.Options) queue { return broker.Open(step5.Config{InFlight: o.InFlight}) })
}

func openStep6(context.Context) (*conformance.System, error) {
	broker := step6.NewBroker()
	return system(func(o conformance.Options) queue { return broker.Open(step6.Config{InFlight: o.InFlight}) })
}

func openStep7(context.Context) (*conformance.System, error) {
	broker := step7.NewBroker()
	return system(func(o conformance.Options) queue { return broker.Open(step7.Config{InFlight: o.InFlight}) })
}

func openStep8(context.Context) (*conformance.System, error) {
	broker := step8.NewBroker()
	return system(func(o conformance.Options) queue {
		return broker.Open(step8.Config{InFlight: o.InFlight, Hold: o.Hold})
	})
}

func openStep9(context.Context) (*conformance.System, error) {
	broker := step9.NewBroker()
	return system(func(o conformance.Options) queue {
		return broker.Open(step9.Config{Group: o.Group, InFlight: o.InFlight, Hold: o.Hold})
	})
}
