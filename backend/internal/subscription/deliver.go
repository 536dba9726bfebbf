package subscription

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// deliverer sends the fetched messages to the channel, oldest fetch first, as slots allow,
// and waits for the outcome of each.
type deliverer struct {
	config  Config
	leases  *leases
	settler *settler
	out     chan *message.Message

	watchers  sync.WaitGroup // one for each message handed over, or more
	toWatch   chan *held     // to watchers that are idle
	abandoned chan struct{}  // closed when acks are not waited for any more
}

func newDeliverer(config Config, leases *leases, settler *settler) *deliverer {
	return &deliverer{
		config:    config,
		leases:    leases,
		settler:   settler,
		out:       make(chan *message.Message),
		toWatch:   make(chan *held),
		abandoned: make(chan struct{}),
	}
}

// run sends messages until ctx ends. A message that is not received for as long as a lease
// lasts goes back to the store.
//
// ctx ends some moments after stopping is closed. A consumer that then discards what
// the channel still brings must not be given a message that was only fetched.
func (d *deliverer) run(ctx context.Context, stopping <-chan struct{}) {
	patience := time.NewTimer(0)
	defer patience.Stop()
	defer close(d.toWatch)
	for {
		l, ok := d.leases.next(ctx)
		if !ok {
			return
		}
		patience.Reset(time.Until(l.since.Add(d.config.Lease)))
		for waiting := true; waiting; {
			waiting = false
			select {
			case d.out <- l.Message:
				d.leases.handedOver(l)
				d.handToWatcher(l)
			case <-patience.C:
				d.leases.notReceived()
				d.settler.release(l)
			case <-d.leases.wakeSender: // some message is lost, perhaps before this one was sent
				waiting = d.leases.has(l)
				if waiting && d.leases.isPaused() {
					d.settler.release(l)
					waiting = false
				}
			case <-stopping:
				d.leases.putBack(l)
				return
			case <-ctx.Done():
				d.leases.putBack(l)
				return
			}
		}
	}
}

// handToWatcher has a goroutine wait for the outcome of a message: an idle one, or a new one.
func (d *deliverer) handToWatcher(l *held) {
	select {
	case d.toWatch <- l:
	default:
		d.watchers.Add(1)
		go d.watchAll(l)
	}
}

// watchAll waits for the outcome of l, and of one message after the other.
func (d *deliverer) watchAll(l *held) {
	defer d.watchers.Done()
	for ok := true; ok; l, ok = <-d.toWatch {
		d.watch(l)
	}
}

// watch waits for the outcome of a message that was handed over.
//
// A message whose context has ended may still be acked: its handler may have
// been just about to finish. The store decides whether the ack comes too late.
func (d *deliverer) watch(l *held) {
	defer l.cancel(nil) // Watermill: the context ends with ack and nack
	msg := l.Message
	select {
	case <-msg.Acked():
		if receipt, ok := l.Delivery.Receipt.(Receipt); ok && receipt.Settled() {
			d.config.Counters.Acked.Add(1)
			d.leases.remove(l)
			return
		}
		d.settler.settle(l, Settlement{Action: Ack})
	case <-msg.Nacked():
		d.leases.stopExtending(l)
		settlement := d.nack(l)
		if settlement.Action == Release && d.leases.releaseLocked(l) {
			return
		}
		d.settler.settle(l, settlement)
	case <-d.abandoned:
	}
}

// nack returns how a nacked message is settled: as its disposition says, which is a release
// if that leaves the message as it was; or else it is redelivered after the delay in its
// metadata; or else after NackDelay and more. A nack without a disposition is a failure, as
// is a dead letter that cannot be moved.
func (d *deliverer) nack(l *held) Settlement {
	settlement := Settlement{Action: Nack, UUID: l.Message.UUID}
	disposition, ok := l.Delivery.Disposition()
	if ok && disposition.Target == nil {
		disposition.Fallback.Delay = max(disposition.Fallback.Delay, 0)
		disposition.Fallback.InPlace = disposition.Fallback.InPlace && disposition.Fallback.Delay == 0
		if disposition.Fallback.InPlace && isUnchanged(l.Delivery, disposition.Fallback) {
			settlement.Action = Release
		}
		settlement.Disposition, settlement.unfailed = disposition, disposition.Fallback.Failures <= l.Delivery.Failures
		return settlement
	}
	if disposition.Target != nil {
		settlement.Action = DeadLetter
	}
	disposition.Fallback = backend.Redelivery{
		Delay:    d.nackDelay(l.Delivery.Failures),
		Failures: l.Delivery.Failures + 1,
		Done:     l.Delivery.Done,
	}
	if delay, _, err := backend.DelayOf(l.Message); err == nil && delay > 0 {
		disposition.Fallback.Delay = delay
	}
	settlement.Disposition = disposition
	return settlement
}

// isUnchanged reports whether r leaves a message as it was before the delivery.
func isUnchanged(d *backend.Delivery, r backend.Redelivery) bool {
	return r.Uncounted && r.Failures == d.Failures && slices.Equal(r.Done, d.Done) && r.UnknownSince.Equal(d.UnknownSince)
}

// nackDelay is how long a message waits that had failed that many times before.
func (d *deliverer) nackDelay(failures int) time.Duration {
	delay := d.config.NackDelay
	for ; failures > 0 && delay < d.config.MaxNackDelay; failures-- {
		delay = min(2*delay, d.config.MaxNackDelay)
	}
	return delay
}

// abandon stops waiting for the outcomes of messages, and returns when no goroutine waits
// for one.
func (d *deliverer) abandon() {
	close(d.abandoned)
	d.watchers.Wait()
}
