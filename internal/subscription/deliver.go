package subscription

import (
	"context"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// handOut sends the claimed messages to the channel, oldest claim first, as
// slots allow, until ctx ends. What nobody receives for as long as a lease lasts
// goes back to the store.
//
// ctx ends some moments after stopping is closed. A consumer that then discards what
// the channel still brings must not be given a message that was only fetched.
func (s *subscription) handOut(ctx context.Context, stopping <-chan struct{}) {
	patience := time.NewTimer(0)
	defer patience.Stop()
	defer close(s.watched)
	for {
		l, ok := s.leases.next(ctx)
		if !ok {
			return
		}
		patience.Reset(time.Until(l.since.Add(s.config.Lease)))
		for waiting := true; waiting; {
			waiting = false
			select {
			case s.out <- l.Message:
				s.leases.handedOver(l)
				s.handToWatcher(l)
			case <-patience.C:
				s.leases.ignored()
				s.release(l)
			case <-s.leases.lost: // some message, perhaps before anybody was there to receive it
				waiting = s.leases.has(l)
			case <-stopping:
				s.leases.putBack(l)
				return
			case <-ctx.Done():
				s.leases.putBack(l)
				return
			}
		}
	}
}

// handToWatcher has a goroutine wait for the outcome of a message. One that is done
// with another message takes it on.
func (s *subscription) handToWatcher(l *lease) {
	select {
	case s.watched <- l:
	default:
		s.watchers.Add(1)
		go s.watchAll(l)
	}
}

// watchAll waits for the outcome of l, and of one message after the other.
func (s *subscription) watchAll(l *lease) {
	defer s.watchers.Done()
	for ok := true; ok; l, ok = <-s.watched {
		s.watch(l)
	}
}

// watch waits for the outcome of a message that was handed over.
//
// A message whose context has ended may still be acked: its handler may have
// been just about to finish. The store decides whether the ack comes too late.
func (s *subscription) watch(l *lease) {
	defer l.cancel(nil) // Watermill: the context ends with ack and nack
	msg := l.Message
	select {
	case <-msg.Acked():
		if beside, ok := l.Delivery.Receipt.(Receipt); ok && beside.Settled() {
			s.config.Counters.Acked.Add(1)
			s.leases.remove(l)
			return
		}
		s.settle(l, Settlement{Action: Ack})
	case <-msg.Nacked():
		s.leases.settling(l)
		outcome := s.nack(l)
		if outcome.Action == Release && s.leases.leave(l) {
			return
		}
		s.settle(l, outcome)
	case <-s.abandoned:
	}
}

// nack says what becomes of a nacked message: what the nack itself asked for, which is
// a release if that leaves no trace, or
// else redelivery after the delay in its metadata, or else after NackDelay and
// more. A nack that does not say otherwise is a failure, as is a dead letter that
// cannot be moved.
func (s *subscription) nack(l *lease) Settlement {
	settlement := Settlement{Action: Nack, UUID: l.Message.UUID}
	verdict, ok := l.Delivery.Disposition()
	if ok && verdict.Letter == nil {
		verdict.Delay = max(verdict.Delay, 0)
		if verdict.InPlace = verdict.InPlace && verdict.Delay == 0; verdict.InPlace && untouched(l.Delivery, verdict.Redelivery) {
			settlement.Action = Release
		}
		settlement.Verdict = verdict
		return settlement
	}
	if verdict.Letter != nil {
		settlement.Action = DeadLetter
	}
	verdict.Redelivery = backend.Redelivery{
		Delay:    s.nackDelay(l.Delivery.Failures),
		Failures: l.Delivery.Failures + 1,
		Done:     l.Delivery.Done,
	}
	if d, _, err := backend.DelayOf(l.Message); err == nil && d > 0 {
		verdict.Delay = d
	}
	settlement.Verdict = verdict
	return settlement
}

// untouched reports whether r leaves a message as it was before the delivery.
func untouched(d *backend.Delivery, r backend.Redelivery) bool {
	return r.Uncounted && r.Failures == d.Failures && slices.Equal(r.Done, d.Done) && r.UnknownSince.Equal(d.UnknownSince)
}

// nackDelay is how long a message waits that had failed so many times before.
func (s *subscription) nackDelay(failures int) time.Duration {
	delay := s.config.NackDelay
	for ; failures > 0 && delay < s.config.MaxNackDelay; failures-- {
		delay = min(2*delay, s.config.MaxNackDelay)
	}
	return delay
}
