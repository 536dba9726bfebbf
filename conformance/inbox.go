package conformance

import (
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// inbox is the receiving end of a subscription.
type inbox struct {
	h        *harness
	messages <-chan *message.Message
	stop     func()

	mu       sync.Mutex
	received []*message.Message
}

// receive returns the next message, which must come.
func (in *inbox) receive() *message.Message {
	msg := in.within(in.h.timeout)
	in.h.require(msg != nil, "no message came within %v", in.h.timeout)
	return msg
}

// within returns the next message, or nil if none comes in that time.
func (in *inbox) within(d time.Duration) *message.Message {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case msg, open := <-in.messages:
		return in.took(msg, open)
	case <-timer.C:
		return nil
	}
}

// took returns what came from the channel, which must be a message.
func (in *inbox) took(msg *message.Message, open bool) *message.Message {
	in.h.require(open, "the subscription ended while a message was awaited")
	in.h.require(msg != nil, "the subscription delivered a nil message")
	in.keep(msg)
	return msg
}

// expect receives the message with that label.
func (in *inbox) expect(label string) *message.Message {
	msg := in.receive()
	in.h.require(in.h.label(msg) == label, "%q came instead of %q", in.h.label(msg), label)
	return msg
}

// receiveAll receives the messages with those labels, in any order.
func (in *inbox) receiveAll(labels ...string) map[string]*message.Message {
	missing, received := setOf(labels), map[string]*message.Message{}
	for len(missing) > 0 {
		msg := in.receive()
		label := in.h.label(msg)
		in.h.require(missing[label], "%q came instead of %q", label, anyOf(missing))
		delete(missing, label)
		received[label] = msg
	}
	return received
}

// ackAll acks messages until each label has come, and fails if one comes that was
// acked before. Duplicates of messages that were not acked are no failure.
func (in *inbox) ackAll(labels ...string) {
	missing := setOf(labels)
	for len(missing) > 0 {
		msg := in.within(in.h.timeout)
		in.h.require(msg != nil, "%d of %d messages did not come within %v, among them %s",
			len(missing), len(labels), in.h.timeout, anyOf(missing))
		label := in.h.label(msg)
		in.h.require(missing[label], "%q came again, although it was acked, or was never published here", label)
		delete(missing, label)
		in.h.ack(msg)
	}
}

// none fails if a message comes in that time.
func (in *inbox) none(d time.Duration, why string) {
	if msg := in.within(d); msg != nil {
		label, _ := strings.CutPrefix(string(msg.Payload), in.h.id+"-")
		in.h.fail("%.80q came, although %s", label, why)
	}
}

// end waits for the channel to be closed, and nacks what comes before that, ever more
// slowly: a backend that should not hand it over again might do so at once.
func (in *inbox) end(why string) {
	timer := time.NewTimer(in.h.timeout)
	defer timer.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, time.Second) {
		select {
		case msg, open := <-in.messages:
			if !open {
				return
			}
			time.Sleep(pause)
			msg.Nack()
		case <-timer.C:
			in.h.fail("the channel was not closed within %v after %s", in.h.timeout, why)
		}
	}
}

// isClosed reports whether the channel is closed at this moment.
func (in *inbox) isClosed() bool {
	select {
	case msg, open := <-in.messages:
		if open {
			in.keep(msg)
		}
		return !open
	default:
		return false
	}
}

func (in *inbox) keep(msg *message.Message) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.received = append(in.received, msg)
}

func (in *inbox) nackAll() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, msg := range in.received {
		msg.Nack()
	}
}

// receiveEither receives from the first of two subscriptions that has a message.
func receiveEither(h *harness, ins [2]*inbox) *message.Message {
	timer := time.NewTimer(h.timeout)
	defer timer.Stop()
	select {
	case msg, open := <-ins[0].messages:
		return ins[0].took(msg, open)
	case msg, open := <-ins[1].messages:
		return ins[1].took(msg, open)
	case <-timer.C:
	}
	h.fail("no message came within %v", h.timeout)
	return nil
}
