package backend

import (
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"
)

// The metadata of a dead letter. The first three are the keys of Watermill's
// PoisonQueue (message/router/middleware/poison.go), so tools that know it know
// ours.
const (
	DeadLetterReason   = "reason_poisoned"   // the error of the last failure
	DeadLetterTopic    = "topic_poisoned"    // where the message came from
	DeadLetterHandler  = "handler_poisoned"  // which handler gave it up
	DeadLetterFailures = "failures_poisoned" // how often it had failed
	DeadLetterAt       = "poisoned_at"       // when it was given up, in RFC 3339
)

// ClearDeadLetter removes those keys. It is for messages that are moved back.
func ClearDeadLetter(metadata message.Metadata) {
	maps.DeleteFunc(metadata, func(key, _ string) bool {
		switch key {
		case DeadLetterReason, DeadLetterTopic, DeadLetterHandler, DeadLetterFailures, DeadLetterAt:
			return true
		}
		return false
	})
}
