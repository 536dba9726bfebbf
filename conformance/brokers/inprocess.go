package brokers

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/conformance"
)

func everyFeature() backend.Features {
	return backend.Features{
		Delay: true, Redelay: true, Attempts: true, Progress: true, DeadLetter: true,
		Ordered: true, Lease: true, Drain: true, Schedules: true, Conditions: true,
	}
}

func memoryBackend() Backend {
	return Backend{
		Name: "memory", Mode: "leases of a second", Module: "github.com/ezq-go/ezq", Ours: true,
		Promises: conformance.Promises{Features: everyFeature(), Durable: true, Groups: true, Patterns: true, Selection: true, Pauses: true, DeadLetterStore: true, Inspection: true, GroupPauses: true},
		Timeout:  time.Minute,
		Start: func(context.Context, Services) (conformance.Open, func() error, error) {
			return openMemory, nothing, nil
		},
	}
}

func openMemory(context.Context) (*conformance.System, error) {
	broker := memory.New(nil)
	connect := func(c conformance.PeerConfig) (*conformance.Peer, error) {
		process := broker.Connect(&memory.Config{
			Lease:        time.Second,
			MaxInFlight:  c.MaxInFlight,
			MaxExtension: c.MaxExtension,
			DrainTimeout: c.DrainTimeout,
			Group:        c.Group,
			Logger:       slog.New(slog.DiscardHandler),
		})
		return &conformance.Peer{Publisher: process, Subscriber: process}, nil
	}
	return &conformance.System{Connect: connect, Lease: time.Second}, nil
}

// goChannel promises nothing: it gives each subscription a copy of what is published
// meanwhile, in any order.
func goChannel() Backend {
	return Backend{
		Name: "Watermill gochannel", Mode: "defaults", Module: "github.com/ThreeDotsLabs/watermill",
		Timeout: time.Minute,
		Start: func(context.Context, Services) (conformance.Open, func() error, error) {
			return openGoChannel, nothing, nil
		},
	}
}

func openGoChannel(context.Context) (*conformance.System, error) {
	host := &channelHost{}
	connect := func(conformance.PeerConfig) (*conformance.Peer, error) {
		peer := host.enter()
		return &conformance.Peer{Publisher: peer, Subscriber: peer}, nil
	}
	return &conformance.System{Connect: connect}, nil
}

// channelHost has a gochannel for as long as a peer uses it. The last to leave closes
// it; a peer that comes after that finds a new one, as after a restart of the program.
type channelHost struct {
	mu      sync.Mutex
	channel *gochannel.GoChannel
	users   int
}

func (h *channelHost) enter() *channelPeer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		h.channel = gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{})
	}
	h.users++
	return &channelPeer{GoChannel: h.channel, host: h, closed: make(chan struct{})}
}

func (h *channelHost) leave() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users > 0 {
		return nil
	}
	return h.channel.Close()
}

// channelPeer is a gochannel that is closed without closing it for others.
type channelPeer struct {
	*gochannel.GoChannel
	host    *channelHost
	closed  chan struct{}
	closing sync.Once
}

// Subscribe implements [message.Subscriber].
func (p *channelPeer) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-p.closed:
		case <-ctx.Done():
		}
	}()
	return p.GoChannel.Subscribe(ctx, topic)
}

// Close ends the subscriptions of this view.
func (p *channelPeer) Close() (err error) {
	p.closing.Do(func() {
		close(p.closed)
		err = p.host.leave()
	})
	return err
}
