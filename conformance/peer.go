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
	b *bench

	mu       sync.Mutex
	inboxes  []*inbox
	routings []*routing

	closing  sync.Once
	closeErr error
}

// connect returns a new peer. It is closed with the case, if not before.
func (b *bench) connect(options Options) *peer {
	options.Drain = cmp.Or(options.Drain, time.Second)
	var connected *Peer
	b.must("Connect", func() (err error) {
		connected, err = b.system.Connect(options)
		return err
	})
	p := &peer{Peer: connected, b: b}
	b.require(p.Peer != nil && p.Publisher != nil && p.Subscriber != nil,
		"Connect returned a nil Peer, or one without publisher or subscriber")
	b.mu.Lock()
	b.peers = append(b.peers, p)
	b.mu.Unlock()
	b.claim("publisher", p.Publisher)
	if any(p.Publisher) != any(p.Subscriber) {
		b.claim("subscriber", p.Subscriber)
	}
	return p
}

func (b *bench) claim(what string, half any) {
	if owner := b.suite.owns(half, b.title); owner != "" {
		b.fail("Connect returned a %s that it had returned before, to the case %q: closing one would close the other", what, owner)
	}
}

// publish sends one message for each label, in one call. Any goroutine may call it.
func (p *peer) publish(topic string, labels ...string) {
	p.send(topic, p.b.messages(labels...)...)
}

func (p *peer) send(topic string, msgs ...*message.Message) {
	p.b.must("Publish", func() error { return p.Publisher.Publish(topic, msgs...) })
}

// trySend publishes a message that the backend may refuse, and reports whether it was
// accepted. To panic is no way to refuse.
func (p *peer) trySend(topic string, msg *message.Message) bool {
	err := p.b.call("Publish", func() error { return p.Publisher.Publish(topic, msg) })
	p.b.requireRefusal(err)
	return err == nil
}

// subscribe starts a subscription that lasts as long as the peer.
func (p *peer) subscribe(topic string) *inbox {
	return p.subscribeWith(p.b.ctx, topic)
}

// subscribeWith starts a subscription that lasts as long as ctx and the peer.
func (p *peer) subscribeWith(ctx context.Context, topic string) *inbox {
	p.initialize(topic)
	in := &inbox{b: p.b}
	ctx, in.stop = context.WithCancel(ctx)
	p.b.must("Subscribe", func() (err error) {
		in.messages, err = p.Subscriber.Subscribe(ctx, topic)
		return err
	})
	p.add(in)
	return in
}

// trySubscribe is subscribe to a topic that the backend may refuse. It returns nil then.
func (p *peer) trySubscribe(topic string) *inbox {
	in := &inbox{b: p.b}
	ctx, stop := context.WithCancel(p.b.ctx)
	in.stop = stop
	if !p.tryInitialize(topic) {
		stop()
		return nil
	}
	err := p.b.call("Subscribe", func() (err error) {
		in.messages, err = p.Subscriber.Subscribe(ctx, topic)
		return err
	})
	p.b.requireRefusal(err)
	if err != nil {
		stop()
		return nil
	}
	p.add(in)
	return in
}

func (p *peer) add(in *inbox) {
	p.b.require(in.messages != nil, "Subscribe returned a nil channel")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inboxes = append(p.inboxes, in)
}

// initialize prepares a topic, as programs do before they publish to a topic that
// nobody has subscribed to.
func (p *peer) initialize(topic string) {
	if i, ok := p.Subscriber.(message.SubscribeInitializer); ok {
		p.b.must("SubscribeInitialize", func() error { return i.SubscribeInitialize(topic) })
	}
}

// tryInitialize is initialize for a topic that the backend may refuse, and reports
// whether it was accepted.
func (p *peer) tryInitialize(topic string) bool {
	i, ok := p.Subscriber.(message.SubscribeInitializer)
	if !ok {
		return true
	}
	err := p.b.call("SubscribeInitialize", func() error { return i.SubscribeInitialize(topic) })
	p.b.requireRefusal(err)
	return err == nil
}

// settleRest stops the routers, and nacks what the case has received and left, so that
// nobody waits for it.
func (p *peer) settleRest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.routings {
		r.stop()
		if !closedWithin(r.ended, p.b.patience) {
			p.b.record("the router was still running %v after it was stopped", p.b.patience)
		}
	}
	for _, in := range p.inboxes {
		in.nackAll()
	}
}

// mustClose closes the peer.
func (p *peer) mustClose() {
	if err := p.close(); err != nil {
		p.b.fail("Close: %v", err)
	}
}

// close closes both halves, the subscriber first, once.
func (p *peer) close() error {
	p.closing.Do(func() {
		p.closeErr = p.b.call("Close of the subscriber", p.Subscriber.Close)
		if any(p.Publisher) != any(p.Subscriber) {
			p.closeErr = errors.Join(p.closeErr, p.b.call("Close of the publisher", p.Publisher.Close))
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, in := range p.inboxes {
			in.stop()
		}
	})
	return p.closeErr
}
