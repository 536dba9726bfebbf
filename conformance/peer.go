package conformance

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// peer is one process of the application that a case plays.
type peer struct {
	*Peer
	h *harness

	mu      sync.Mutex
	inboxes []*inbox

	closing  sync.Once
	closeErr error
}

// connect returns a new peer. It is closed with the case, if not before.
func connect(h *harness, config PeerConfig) *peer {
	config.DrainTimeout = cmp.Or(config.DrainTimeout, time.Second)
	var connected *Peer
	h.must("Connect", func() (err error) {
		connected, err = h.system.Connect(config)
		return err
	})
	p := &peer{Peer: connected, h: h}
	h.require(p.Peer != nil && p.Publisher != nil && p.Subscriber != nil,
		"Connect returned a nil Peer, or one without publisher or subscriber")
	h.atEnd(settleMessages, p.nackRest)
	h.atEnd(closePeers, func() {
		if err := p.close(); err != nil {
			h.record("Close: %v", err)
		}
	})
	p.requireUnused("publisher", p.Publisher)
	if any(p.Publisher) != any(p.Subscriber) {
		p.requireUnused("subscriber", p.Subscriber)
	}
	return p
}

func (p *peer) requireUnused(what string, half any) {
	if owner := p.h.owners.claim(half, p.h.title); owner != "" {
		p.h.fail("Connect returned a %s that it had returned before, to the case %q: closing one would close the other", what, owner)
	}
}

// publish sends one message for each label, in one call. Any goroutine may call it.
func (p *peer) publish(topic string, labels ...string) {
	p.send(topic, p.h.messages(labels...)...)
}

func (p *peer) send(topic string, msgs ...*message.Message) {
	p.h.must("Publish", func() error { return p.Publisher.Publish(topic, msgs...) })
}

// trySend publishes a message that the backend may refuse, and reports whether it was
// accepted. To panic is no way to refuse.
func (p *peer) trySend(topic string, msg *message.Message) bool {
	err := p.h.call("Publish", func() error { return p.Publisher.Publish(topic, msg) })
	p.h.requireRefusal(err)
	return err == nil
}

// subscribe starts a subscription that lasts as long as the peer.
func (p *peer) subscribe(topic string) *inbox {
	return p.subscribeWith(p.h.ctx, topic)
}

// subscribeWith starts a subscription that lasts as long as ctx and the peer.
func (p *peer) subscribeWith(ctx context.Context, topic string) *inbox {
	p.initialize(topic)
	in := &inbox{h: p.h}
	ctx, in.stop = context.WithCancel(ctx)
	p.h.must("Subscribe", func() (err error) {
		in.messages, err = p.Subscriber.Subscribe(ctx, topic)
		return err
	})
	p.add(in)
	return in
}

// trySubscribe is subscribe to a topic that the backend may refuse. It returns nil then.
func (p *peer) trySubscribe(topic string) *inbox {
	in := &inbox{h: p.h}
	ctx, stop := context.WithCancel(p.h.ctx)
	in.stop = stop
	if !p.tryInitialize(topic) {
		stop()
		return nil
	}
	err := p.h.call("Subscribe", func() (err error) {
		in.messages, err = p.Subscriber.Subscribe(ctx, topic)
		return err
	})
	p.h.requireRefusal(err)
	if err != nil {
		stop()
		return nil
	}
	p.add(in)
	return in
}

func (p *peer) add(in *inbox) {
	p.h.require(in.messages != nil, "Subscribe returned a nil channel")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inboxes = append(p.inboxes, in)
}

// initialize prepares a topic, as programs do before they publish to a topic without
// subscribers.
func (p *peer) initialize(topic string) {
	if i, ok := p.Subscriber.(message.SubscribeInitializer); ok {
		p.h.must("SubscribeInitialize", func() error { return i.SubscribeInitialize(topic) })
	}
}

// tryInitialize is initialize for a topic that the backend may refuse, and reports
// whether it was accepted.
func (p *peer) tryInitialize(topic string) bool {
	i, ok := p.Subscriber.(message.SubscribeInitializer)
	if !ok {
		return true
	}
	err := p.h.call("SubscribeInitialize", func() error { return i.SubscribeInitialize(topic) })
	p.h.requireRefusal(err)
	return err == nil
}

// nackRest nacks what the case has received and left, so that nothing waits for it.
func (p *peer) nackRest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, in := range p.inboxes {
		in.nackAll()
	}
}

// mustClose closes the peer.
func (p *peer) mustClose() {
	if err := p.close(); err != nil {
		p.h.fail("Close: %v", err)
	}
}

// close closes both halves, the subscriber first, once.
func (p *peer) close() error {
	p.closing.Do(func() {
		p.closeErr = p.h.call("Close of the subscriber", p.Subscriber.Close)
		if any(p.Publisher) != any(p.Subscriber) {
			p.closeErr = errors.Join(p.closeErr, p.h.call("Close of the publisher", p.Publisher.Close))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, in := range p.inboxes {
			in.stop()
		}
	})
	return p.closeErr
}
