package backend

import (
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"
)

// SetDelay asks for msg to be delivered no sooner than d after it has been
// stored. It writes the metadata of Watermill's components/delay, so every
// Pub/Sub that understands that package understands it too.
func SetDelay(msg *message.Message, d time.Duration) {
	delay.Message(msg, delay.For(d))
}

// SetDeliverAt asks for msg to be delivered no sooner than at t.
//
// It writes one of the two keys of Watermill's components/delay, the one for
// an absolute time, with nanoseconds instead of that package's full seconds.
func SetDeliverAt(msg *message.Message, t time.Time) {
	delete(msg.Metadata, delay.DelayedForKey)
	msg.Metadata.Set(delay.DelayedUntilKey, t.UTC().Format(time.RFC3339Nano))
}

// DelayOf returns what [SetDelay], [SetDeliverAt] or Watermill's components/delay
// asked for: a duration, or else a time, or else neither (0 and the zero Time).
//
// Where both keys are set, as components/delay does, the duration is the exact
// one: its time is cut to full seconds. A value that is not a delay is an error.
func DelayOf(msg *message.Message) (time.Duration, time.Time, error) {
	if s := msg.Metadata.Get(delay.DelayedForKey); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, time.Time{}, fmt.Errorf("metadata %s: %q is not a duration", delay.DelayedForKey, s)
		}
		return max(d, 0), time.Time{}, nil
	}
	if s := msg.Metadata.Get(delay.DelayedUntilKey); s != "" {
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return 0, time.Time{}, fmt.Errorf("metadata %s: %q is not an RFC 3339 time", delay.DelayedUntilKey, s)
		}
		return 0, t, nil
	}
	return 0, time.Time{}, nil
}

// ClearDelay removes what [SetDelay] and [SetDeliverAt] wrote. Backends call it on
// what they store: a delay that has passed must not delay the next hop.
func ClearDelay(metadata message.Metadata) {
	delete(metadata, delay.DelayedForKey)
	delete(metadata, delay.DelayedUntilKey)
}
