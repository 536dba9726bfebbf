package middleware

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// deadLetter returns the metadata that explains a dead letter.
func deadLetter(topic, handler string, failures int, err error) message.Metadata {
	return message.Metadata{
		backend.DeadLetterReason:   reason(err.Error()),
		backend.DeadLetterTopic:    topic,
		backend.DeadLetterHandler:  handler,
		backend.DeadLetterFailures: strconv.Itoa(failures),
		backend.DeadLetterAt:       time.Now().UTC().Format(time.RFC3339),
	}
}

// maxReason is how many bytes of an error's text a dead letter carries.
const maxReason = 1024

// reason returns text as every backend can store it. What a database refuses as
// text would keep the message in its queue for ever.
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
