package backend_test

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/examples/backend/step1"
	"github.com/ezq-go/ezq/examples/backend/step2"
	"github.com/ezq-go/ezq/examples/backend/step3"
)

// steps is the way from the least to everything that needs no transactions.
func steps() []step {
	ordered := conformance.Promises{Durable: true}
	ordered.Ordered = true
	complete := ordered
	complete.Delay, complete.Redelay = true, true
	complete.Attempts, complete.Progress = true, true
	complete.DeadLetter, complete.Drain, complete.Lease = true, true, true
	complete.Groups = true
	return []step{
		{name: "Step 1", open: openStep1, chance: lostByChance()},
		{name: "Step 2", promises: ordered, open: openStep2},
		{name: "Step 3", promises: complete, open: openStep3, parts: []part{
			{"delays", []string{"Delay", "Redelay"}},
			{"counts and records", []string{"Attempts", "Progress"}},
			{"dead letters", []string{"DeadLetter"}},
			{"consumers that stop", []string{"Drain"}},
			{"leases", []string{"Lease"}},
			{"groups", []string{"Groups"}},
		}},
	}
}

// lostByChance are cases that hold in some runs of step 1 only: subscriptions that have ended
// and others compete for a message, and a message that one of them has taken is lost.
func lostByChance() []string {
	return []string{
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
func system(open func(conformance.PeerConfig) queue) (*conformance.System, error) {
	return &conformance.System{
		Lease: time.Second, // nothing in the process needs one, so it is only what MaxExtension is at least
		Connect: func(c conformance.PeerConfig) (*conformance.Peer, error) {
			q := open(c)
			return &conformance.Peer{Publisher: q, Subscriber: q}, nil
		},
	}, nil
}

func openStep1(context.Context) (*conformance.System, error) {
	broker := step1.NewBroker()
	return system(func(conformance.PeerConfig) queue { return broker.Open() })
}

func openStep2(context.Context) (*conformance.System, error) {
	broker := step2.NewBroker()
	return system(func(c conformance.PeerConfig) queue { return broker.Open(step2.Config{InFlight: c.MaxInFlight}) })
}

func openStep3(context.Context) (*conformance.System, error) {
	broker := step3.NewBroker()
	return system(func(c conformance.PeerConfig) queue {
		return broker.Open(step3.Config{Group: c.Group, InFlight: c.MaxInFlight, Hold: c.MaxExtension})
	})
}
