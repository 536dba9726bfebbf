package backend

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

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
	DeadLetterAt       = "poisoned_at"       // when it was dead-lettered, in RFC 3339
)

// DeadLetterSuffix is what a dead-letter topic has behind the name of its topic, unless a Poison names another one: the
// dead letters of "orders" are in "orders_dead".
const DeadLetterSuffix = "_dead"

// DeadLetterMetadata returns the metadata that explains a dead letter: where the message
// came from, which handler gave it up, how often it had failed, and the error of the last
// failure, of which at most 1024 bytes are kept, as valid UTF-8 without NUL. After an
// [ExpiredError], which is no failure and is not counted, the message expires no more: when it is
// redriven, it is to be handled.
func DeadLetterMetadata(topic, handler string, failures int, err error) message.Metadata {
	_, expired := errors.AsType[*ExpiredError](err)
	if expired {
		failures = max(failures-1, 0)
	}
	metadata := message.Metadata{
		DeadLetterReason:   reason(err.Error()),
		DeadLetterTopic:    topic,
		DeadLetterHandler:  handler,
		DeadLetterFailures: strconv.Itoa(failures),
		DeadLetterAt:       time.Now().UTC().Format(time.RFC3339),
	}
	if expired {
		metadata[ExpiresAt] = ""
	}
	return metadata
}

// maxReason is how many bytes of an error's text a dead letter carries.
const maxReason = 1024

// reason returns text as every backend can store it. Text that a database
// refuses would keep the message in its queue for ever.
func reason(text string) string {
	const replacement, more = "\uFFFD", "…"
	clean := strings.ToValidUTF8(text[:min(len(text), maxReason)], replacement)
	clean = strings.ReplaceAll(clean, "\x00", replacement)
	if len(text) <= maxReason && len(clean) <= maxReason {
		return clean
	}
	end := min(len(clean), maxReason-len(more))
	for end < len(clean) && !utf8.RuneStart(clean[end]) {
		end--
	}
	return clean[:end] + more
}
