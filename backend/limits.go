package backend

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
)

// What every backend of this module takes, and package ezq with any publisher. Programs
// that do not use ezq may exceed them: docs/wire.md says what becomes of such messages.
const (
	// MaxTopic is how many bytes the name of a topic may have, without any
	// [DeadLetterSuffix] at its end, so that each topic can have dead letters.
	MaxTopic = 1024

	// MaxID is how many bytes the UUID of a message may have, and an ID that ezq
	// publishes as correlation_id or causation_id.
	MaxID = 255

	// MaxName is how many bytes the name of an event, and of a handler, may have.
	MaxName = 255

	// MaxHeaders is how many bytes the UUID and the metadata of a message may have in all,
	// as JSON: names and values with what JSON escapes, and 8 bytes for each pair.
	MaxHeaders = 64 << 10
)

// reservedPrefix begins the names that backends add to the metadata of a message.
const reservedPrefix = "ezq_"

// RefusedError says what a backend does not take, whatever state it is in, or what package
// ezq does not publish.
type RefusedError struct {
	What   string // as `header "ezq_uuid"`
	Reason string
	Remedy string
}

func (e *RefusedError) Error() string { return e.What + ": " + e.Reason + ": " + e.Remedy }

// MarshalText returns what Error does.
func (e *RefusedError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// CheckTopic returns a *[RefusedError] if topic cannot be the name of a topic: it is empty,
// is not UTF-8 without NUL, or is longer than [MaxTopic].
func CheckTopic(topic string) error {
	bare := topic
	for strings.HasSuffix(bare, DeadLetterSuffix) {
		bare = strings.TrimSuffix(bare, DeadLetterSuffix)
	}
	reason := ""
	switch {
	case topic == "":
		reason = "it is empty"
	case len(bare) > MaxTopic || len(topic) > 2*MaxTopic:
		reason = tooLong(len(topic), MaxTopic)
	case !utf8.ValidString(topic):
		reason = "it is not UTF-8"
	case strings.IndexByte(topic, 0) >= 0:
		reason = "it contains a NUL"
	default:
		return nil
	}
	return &RefusedError{What: "the topic", Reason: reason, Remedy: "choose another name"}
}

// CheckHeaders returns a *[RefusedError] if the UUID or the metadata of a message cannot be
// kept: something is not UTF-8 without NUL, is longer than [MaxID] or [MaxHeaders], or has a
// name that begins with "ezq_".
func CheckHeaders(uuid string, metadata message.Metadata) error {
	if err := checkID(uuid); err != nil {
		return err
	}
	for name, value := range metadata {
		if err := checkHeader(name, value); err != nil {
			return err
		}
	}
	if size := headersSize(uuid, metadata); size > MaxHeaders {
		return &RefusedError{"the headers", fmt.Sprintf("they have %d bytes, and the limit is %d", size, MaxHeaders), "put what is large into the payload"}
	}
	return nil
}

func checkID(id string) error {
	switch {
	case !isText(id):
		return &RefusedError{fmt.Sprintf("the UUID %.100q", id), "it is not UTF-8 without NUL", "use another one"}
	case len(id) > MaxID:
		return &RefusedError{"the UUID", tooLong(len(id), MaxID), "use a shorter one, such as a digest of it"}
	}
	return nil
}

func checkHeader(name, value string) error {
	reason, remedy := "", ""
	switch {
	case strings.HasPrefix(name, reservedPrefix):
		reason, remedy = "the name is reserved for ezq", "choose one that does not begin with "+reservedPrefix
	case !isText(name):
		reason, remedy = "the name is not UTF-8 without NUL", "choose another one"
	case !isText(value):
		reason, remedy = "the value is not UTF-8 without NUL", "encode it, for example as base64, or put it into the payload"
	default:
		return nil
	}
	return &RefusedError{fmt.Sprintf("header %.100q", name), reason, remedy}
}

func tooLong(size, limit int) string {
	return fmt.Sprintf("it has %d bytes, and the limit is %d", size, limit)
}

func isText(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

// headersSize returns how long they are as JSON.
func headersSize(uuid string, metadata message.Metadata) int {
	size := len(uuid)
	for name, value := range metadata {
		size += len(name) + len(value) + len(`"": "", `)
	}
	const longest = len(`\u0001`)
	if size*longest <= MaxHeaders {
		return size
	}
	size += escapes(uuid)
	for name, value := range metadata {
		size += escapes(name) + escapes(value)
	}
	return size
}

// escapes returns how many bytes longer s is as JSON, as PostgreSQL writes it.
func escapes(s string) (more int) {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"', c == '\\', c == '\n', c == '\r', c == '\t', c == '\b', c == '\f':
			more++
		case c < ' ':
			more += len(`\u0001`) - 1
		}
	}
	return more
}
