package conformance_test

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/conformance"
)

// Watermill's Go channels do not delay messages. Here the test promises that they do.
func ExampleCheck() {
	open := func(context.Context) (*conformance.System, error) {
		channels := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
		connect := func(conformance.PeerConfig) (*conformance.Peer, error) {
			return &conformance.Peer{Publisher: channels, Subscriber: channels}, nil
		}
		return &conformance.System{Connect: connect}, nil
	}
	promised := conformance.Promises{Features: backend.Features{Delay: true}}
	delays := conformance.Only(func(c conformance.Case) bool { return c.Theme == "delays" })

	results := conformance.Check(context.Background(), open, promised, delays)
	for _, r := range results {
		fmt.Printf("%s: %s\n", r.Name, r.Outcome)
	}
	fmt.Println(len(results.Failed()), "failed")
	// Output:
	// a delayed message waits: fail
	// a delay outlasts a look at what is next: fail
	// a nacked message waits as it was told to: not promised
	// 2 failed
}
