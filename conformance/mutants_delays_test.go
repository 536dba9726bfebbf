package conformance_test

import (
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// noSooner returns the first of the times that it was asked for on a topic, if at is sooner.
func (p *process) noSooner(topic string, at time.Time) time.Time {
	before, err := time.Parse(time.RFC3339Nano, string(p.swapPayload("due "+topic, []byte(at.Format(time.RFC3339Nano)))))
	if err == nil && before.After(at) {
		return before
	}
	return at
}

func delayMutants() []mutant {
	return []mutant{
		{
			name:     "delays are ignored",
			breaks:   "a message that is published with a delay comes at once",
			killedBy: []string{"delays/a delayed message waits", "router/an event for later waits"},
			fault:    storing(func(msg *message.Message) { backend.ClearDelay(msg.Metadata) }),
		},
		{
			name:     "delays are too long",
			breaks:   "a message that is published with a delay comes after twice that",
			killedBy: []string{"delays/a delayed message waits", "router/an event for later waits"},
			fault: storing(func(msg *message.Message) {
				if d, _, err := backend.DelayOf(msg); err == nil && d > 0 {
					backend.SetDelay(msg, 2*d)
				}
			}),
		},
		{
			name:     "what is due is looked for five seconds ahead",
			breaks:   "a message that is published with a delay of more than five seconds never comes",
			killedBy: []string{"delays/a delay outlasts a look at what is next"},
			fault: storing(func(msg *message.Message) {
				if d, _, err := backend.DelayOf(msg); err == nil && d > 5*time.Second {
					backend.SetDelay(msg, 100*365*24*time.Hour)
				}
			}),
		},
		{
			name:     "the next look is not brought forward",
			breaks:   "a message waits until one is due that was published before it with a longer delay",
			killedBy: []string{"delays/a delay outlasts a look at what is next"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				stored := make([]*message.Message, len(msgs))
				for i, msg := range msgs {
					stored[i] = msg.CopyWithContext()
					if d, _, err := backend.DelayOf(msg); err == nil && d > 0 {
						backend.SetDeliverAt(stored[i], p.noSooner(topic, time.Now().Add(d)))
					}
				}
				return p.store(topic, stored...)
			}},
		},
		{
			name:     "times are in another zone",
			breaks:   "a message that is published for a time comes an hour later",
			killedBy: []string{"delays/a delayed message waits"},
			fault: storing(func(msg *message.Message) {
				if _, at, err := backend.DelayOf(msg); err == nil && !at.IsZero() {
					backend.SetDeliverAt(msg, at.Add(time.Hour))
				}
			}),
		},
		{
			name:     "a nack's delay is ignored",
			breaks:   "a message that is nacked with a delay comes back at once",
			killedBy: []string{"delays/a nacked message waits as it was told to", "router/RetryAfter waits"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				v.Fallback.Delay = 0
				d.settleAs(v)
			}),
		},
		{
			name:     "a nack's delay is too long",
			breaks:   "a message that is nacked with a delay comes back after twice that",
			killedBy: []string{"delays/a nacked message waits as it was told to", "router/RetryAfter waits"},
			fault: settling(func(d *delivery, v backend.Disposition) {
				v.Fallback.Delay *= 2
				d.settleAs(v)
			}),
		},
		{
			name:     "a century is too long",
			breaks:   "a delay that is too long to store is none",
			killedBy: []string{"hostile input/a huge delay"},
			fault: storing(func(msg *message.Message) {
				if d, _, err := backend.DelayOf(msg); err == nil && d > 100*365*24*time.Hour {
					backend.ClearDelay(msg.Metadata)
				}
			}),
		},
		{
			name:     "a delay that cannot be read is none",
			breaks:   "Publish accepts a delay that is not one",
			killedBy: []string{"hostile input/a delay that is none"},
			fault: storing(func(msg *message.Message) {
				if _, _, err := backend.DelayOf(msg); err != nil {
					backend.ClearDelay(msg.Metadata)
				}
			}),
		},
		{
			name:     "delays have no sign",
			breaks:   "a message whose delay is negative waits",
			killedBy: []string{"hostile input/a delay that is past"},
			fault: storing(func(msg *message.Message) {
				if d, negative := strings.CutPrefix(msg.Metadata.Get(delay.DelayedForKey), "-"); negative {
					msg.Metadata.Set(delay.DelayedForKey, d)
				}
			}),
		},
	}
}
