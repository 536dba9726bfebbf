package backend_test

import (
	"context"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/examples/backend/step1"
	"github.com/ezq-go/ezq/examples/backend/step2"
)

func steps() []step {
	return []step{
		{"Step 1", conformance.Promises{}, openStep1},
		{"Step 2", conformance.Promises{Durable: true}, openStep2},
	}
}

func openStep1(context.Context) (*conformance.System, error) {
	broker := step1.NewBroker()
	return &conformance.System{Connect: func(conformance.Options) (*conformance.Peer, error) {
		queue := broker.Open()
		return &conformance.Peer{Publisher: queue, Subscriber: queue}, nil
	}}, nil
}

func openStep2(context.Context) (*conformance.System, error) {
	broker := step2.NewBroker()
	return &conformance.System{Connect: func(conformance.Options) (*conformance.Peer, error) {
		queue := broker.Open()
		return &conformance.Peer{Publisher: queue, Subscriber: queue}, nil
	}}, nil
}
