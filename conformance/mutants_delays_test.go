package conformance_test

import (
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func delayMutants() []mutant {
	return []mutant{
		{
			name:     "delays are ignored",
			breaks:   "a message that is published with a delay comes at once",
			killedBy: []string{"delays/a delayed message waits", "router/an event for later waits"},
			flaw:     storing(func(msg *message.Message) { backend.ClearDelay(msg.Metadata) }),
		},
		{
			name:     "delays are too long",
			breaks:   "a message that is published with a delay comes after twice that",
			killedBy: []string{"delays/a delayed message waits", "router/an event for later waits"},
			flaw: storing(func(msg *message.Message) {
				if d, _, err := backend.DelayOf(msg); err == nil && d > 0 {
					backend.SetDelay(msg, 2*d)
				}
			}),
		},
		{
			name:     "times are in another zone",
			breaks:   "a message that is published for a time comes an hour later",
			killedBy: []string{"delays/a delayed message waits"},
			flaw: storing(func(msg *message.Message) {
				if _, at, err := backend.DelayOf(msg); err == nil && !at.IsZero() {
					backend.SetTime(msg, at.Add(time.Hour))
				}
			}),
		},
		{
			name:     "a nack's delay is ignored",
			breaks:   "a message that is nacked with a delay comes back at once",
			killedBy: []string{"delays/a nacked message waits as it was told to", "router/RetryAfter waits"},
			flaw: settling(func(d *delivery, v backend.Verdict) {
				v.Delay = 0
				d.as(v)
			}),
		},
		{
			name:     "a nack's delay is too long",
			breaks:   "a message that is nacked with a delay comes back after twice that",
			killedBy: []string{"delays/a nacked message waits as it was told to", "router/RetryAfter waits"},
			flaw: settling(func(d *delivery, v backend.Verdict) {
				v.Delay *= 2
				d.as(v)
			}),
		},
		{
			name:     "a century is too long",
			breaks:   "a delay that is too long to store is none",
			killedBy: []string{"hostile input/a huge delay"},
			flaw: storing(func(msg *message.Message) {
				if d, _, err := backend.DelayOf(msg); err == nil && d > 100*365*24*time.Hour {
					backend.ClearDelay(msg.Metadata)
				}
			}),
		},
		{
			name:     "a delay that cannot be read is none",
			breaks:   "Publish accepts a delay that is not one",
			killedBy: []string{"hostile input/a delay that is none"},
			flaw: storing(func(msg *message.Message) {
				if _, _, err := backend.DelayOf(msg); err != nil {
					backend.ClearDelay(msg.Metadata)
				}
			}),
		},
		{
			name:     "delays have no sign",
			breaks:   "a message whose delay is negative waits",
			killedBy: []string{"hostile input/a delay that is past"},
			flaw: storing(func(msg *message.Message) {
				if d, negative := strings.CutPrefix(msg.Metadata.Get(delay.DelayedForKey), "-"); negative {
					msg.Metadata.Set(delay.DelayedForKey, d)
				}
			}),
		},
	}
}
