package conformance

import (
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// inbox is the receiving end of a subscription.
type inbox struct {
	b        *bench
	messages <-chan *message.Message
	stop     func()

	mu       sync.Mutex
	received []*message.Message
}

// receive returns the next message, which must come.
func (in *inbox) receive() *message.Message {
	msg := in.within(in.b.patience)
	in.b.require(msg != nil, "no message came within %v", in.b.patience)
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
	in.b.require(open, "the subscription ended while a message was awaited")
	in.b.require(msg != nil, "the subscription delivered a nil message")
	in.keep(msg)
	return msg
}

// expect receives the message with that label.
func (in *inbox) expect(label string) *message.Message {
	msg := in.receive()
	in.b.require(in.b.label(msg) == label, "%q came instead of %q", in.b.label(msg), label)
	return msg
}

// ackAll acks messages until each label has come, and fails if one comes that was
// acked before. Duplicates of messages that were not acked are no failure.
func (in *inbox) ackAll(labels ...string) {
	missing := map[string]bool{}
	for _, label := range labels {
		missing[label] = true
	}
	for len(missing) > 0 {
		msg := in.within(in.b.patience)
		in.b.require(msg != nil, "%d of %d messages did not come within %v, among them %s",
			len(missing), len(labels), in.b.patience, anyOf(missing))
		label := in.b.label(msg)
		in.b.require(missing[label], "%q came again, although it was acked, or was never published here", label)
		delete(missing, label)
		in.b.ack(msg)
	}
}

// none fails if a message comes in that time.
func (in *inbox) none(d time.Duration, why string) {
	if msg := in.within(d); msg != nil {
		label, _ := strings.CutPrefix(string(msg.Payload), in.b.id+"-")
		in.b.fail("%.80q came, although %s", label, why)
	}
}

// end waits for the channel to be closed, and nacks what comes before that, ever more
// slowly: a backend that should not hand it over again might do so at once.
func (in *inbox) end(why string) {
	timer := time.NewTimer(in.b.patience)
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
			in.b.fail("the channel was not closed within %v after %s", in.b.patience, why)
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

// label returns what the message was called when it was published, and fails if that
// was in another case.
func (b *bench) label(msg *message.Message) string {
	label, ours := strings.CutPrefix(string(msg.Payload), b.id+"-")
	b.require(ours, "the message %.80q came, which was not published in this case: the factory shares topics between cases, or the payload was changed", msg.Payload)
	return label
}

// ours reports whether a message was labelled in this case.
func (b *bench) ours(msg *message.Message) bool {
	return strings.HasPrefix(string(msg.Payload), b.id+"-")
}

// ack acks a message, which must be possible.
func (b *bench) ack(msg *message.Message) {
	b.require(msg.Ack(), "a message could not be acked: it came with a nack already sent")
}

func (b *bench) nack(msg *message.Message) {
	b.require(msg.Nack(), "a message could not be nacked: it came with an ack already sent")
}

func anyOf(set map[string]bool) string {
	least := ""
	for label := range set {
		if least == "" || label < least {
			least = label
		}
	}
	return least
}
