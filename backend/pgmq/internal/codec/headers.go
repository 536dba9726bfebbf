package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// The headers of a message are a flat JSON object. It contains the metadata under
// its own names, and what ezq adds under names with a prefix, which metadata
// cannot have.
const (
	reservedPrefix = "ezq_"

	UUIDKey     = reservedPrefix + "uuid"
	encodingKey = reservedPrefix + "enc"
	FailuresKey = reservedPrefix + "failures"      // written by a nack,
	DoneKey     = reservedPrefix + "done"          // as is this
	UnknownKey  = reservedPrefix + "unknown_since" // and this
	UniqueKey   = reservedPrefix + "unique"        // of a message with a key: see package condition
	OriginKey   = reservedPrefix + "queue"         // of a dead letter: where it was,
	GroupKey    = reservedPrefix + "group"         // and for which group, if for one
	TopicKey    = reservedPrefix + "topic"         // of a copy for a group that takes a pattern: see EscapeTopic
)

const (
	// MaxHeaders is how many bytes of headers are received: a published message has half
	// of that at most, and failures and dead letters add some.
	MaxHeaders = 2 * backend.MaxHeaders

	// MaxStoredHeaders is how many bytes, as PostgreSQL stores them, headers may have that are looked at: those that ezq
	// writes have no more. It is known without reading them.
	MaxStoredHeaders = 2 * MaxHeaders

	// sharedHeaders is how many bytes of headers are kept as one text. Of larger ones, a
	// kept id does not keep all.
	sharedHeaders = 1 << 10
)

// maxFailures keeps a number that another program wrote harmless.
const maxFailures = math.MaxInt32

var errBadHeaders = errors.New("the headers are not JSON")

// IsReadFast is SQL that tells, without reading it, that a column is small, and that reading does not make it larger.
func IsReadFast(column string) string {
	return fmt.Sprintf("coalesce(pg_catalog.pg_column_size(%[1]s), 0) <= 8192 and pg_catalog.pg_column_compression(%[1]s) is null", column)
}

// HeaderSQL is a header in SQL. One that is no string, or has more bytes than most, counts as empty: it is never written
// out.
func HeaderSQL(key string, most int) string {
	return fmt.Sprintf("case when pg_catalog.jsonb_typeof(headers->'%[1]s'::text) = 'string' and pg_catalog.octet_length(headers->>'%[1]s'::text) <= %[2]d then headers->>'%[1]s'::text else '' end", key, most)
}

// EncodeHeaders returns the text of the jsonb in the column headers.
//
// An error is a [*fault.Error] of the kind [fault.ErrInvalidMessage]: see [backend.CheckHeaders].
func EncodeHeaders(uuid string, metadata message.Metadata, encoding string) (string, error) {
	if err := backend.CheckHeaders(uuid, metadata); err != nil {
		return "", &fault.Error{Kind: fault.ErrInvalidMessage, Cause: err}
	}
	size := len(`{"":"","":""}`) + len(UUIDKey) + len(uuid) + len(encodingKey) + len(encoding)
	for key, value := range metadata {
		size += len(key) + len(value) + len(`"":"",`)
	}
	headers := append(make([]byte, 0, size), '{')
	if uuid != "" {
		headers = appendHeader(headers, UUIDKey, uuid)
	}
	if encoding != encodingNative {
		headers = appendHeader(headers, encodingKey, encoding)
	}
	for key, value := range metadata {
		headers = appendHeader(headers, key, value)
	}
	return string(append(headers, '}')), nil
}

func appendHeader(headers []byte, key, value string) []byte {
	if len(headers) > 1 {
		headers = append(headers, ',')
	}
	headers = append(appendQuoted(headers, key), ':')
	return appendQuoted(headers, value)
}

// Headers is what the column headers says.
type Headers struct {
	UUID     string
	Metadata message.Metadata // not nil
	Encoding string
	Failures int
	Done     []string
	Unknown  time.Time
	Topic    string // as EscapeTopic has it
}

// Decode reads what EncodeHeaders has written, and what others have: text is the
// text of any jsonb, or nil for SQL's NULL.
//
// A foreign header that is not a string becomes its compact JSON text. Headers
// that are not an object say nothing and are ignored, as are reserved names that
// are unknown or do not have the value that they should. An error means that text
// begins an object which is not JSON.
func (h *Headers) Decode(text []byte) error {
	r := headerReader{text: text}
	if len(text) <= sharedHeaders {
		r.all = string(text)
	}
	for r.next() {
		switch {
		case !strings.HasPrefix(r.key, reservedPrefix):
			h.Metadata[r.key] = r.value
		case r.key == UUIDKey && r.isString && len(r.value) <= backend.MaxID:
			h.UUID = r.value
		case r.key == encodingKey && r.isString:
			h.Encoding = r.value
		case r.key == FailuresKey && !r.isString:
			h.Failures = parseFailures(r.value)
		case r.key == DoneKey && !r.isString:
			h.Done = parseDone(r.value)
		case r.key == UnknownKey && r.isString:
			h.Unknown, _ = time.Parse(time.RFC3339, r.value) // or another program wrote it
		case r.key == TopicKey && r.isString:
			h.Topic = r.value
		}
	}
	return r.err
}

// EscapeTopic returns what a message says of the topic that it was published to, which any encoding of PostgreSQL
// has, and which needs no escape in JSON.
func EscapeTopic(topic string) string { return url.PathEscape(topic) }

// PublishedTo returns the topic that the message was published to, if it says one that pattern matches.
func (h *Headers) PublishedTo(pattern string) string {
	if h.Topic == "" || !backend.IsPattern(pattern) {
		return ""
	}
	topic, err := url.PathUnescape(h.Topic)
	if err != nil || backend.CheckTopic(topic) != nil || !backend.MatchesPattern(pattern, topic) {
		return "" // another program wrote it
	}
	return topic
}

// DropForged forgets what only ezq may say of a message in queue: what was done with it, and an id that
// another message has by itself. It returns which of these there was.
func (h *Headers) DropForged(queue string) (progress, named bool) {
	progress = h.Failures > 0 || len(h.Done) > 0 || !h.Unknown.IsZero()
	named = IsDefaultID(h.UUID, queue)
	h.Failures, h.Done, h.Unknown = 0, nil, time.Time{}
	if named {
		h.UUID = ""
	}
	return progress, named
}

// DropTaken forgets an id that a message after this one, in row id of queue, has by itself. A forged dead letter gives
// one to the message that is redriven; the messages of others have ids of rows that are past.
func (h *Headers) DropTaken(queue string, id int64) {
	if !IsDefaultID(h.UUID, queue) {
		return
	}
	number, err := strconv.ParseInt(h.UUID[len(queue)+len("/"):], 10, 64)
	if number > id || errors.Is(err, strconv.ErrRange) {
		h.UUID = ""
	}
}

// Memory returns how many bytes the headers take beside their text: short ones take more for what
// they are than for what they say.
func (h *Headers) Memory() int {
	const stringHead, rounding = 16, 8 // of a string in a slice; of an allocation of its own
	return mapMemory(len(h.Metadata)) + stringHead*cap(h.Done) + rounding*(2*len(h.Metadata)+len(h.Done))
}

// mapMemory returns how many bytes a map of strings takes that has grown to so many entries. Go makes
// room for 8, and for twice as many when 7 of 8 are taken.
func mapMemory(entries int) int {
	const slot = 40 // two strings and a control byte, rounded up as Go's allocator does
	if entries == 0 {
		return 0
	}
	slots := 8
	for slots < entries || slots > 8 && slots*7/8 < entries {
		slots *= 2
	}
	return slots * slot
}

func parseDone(array string) []string {
	var done []string
	if json.Unmarshal([]byte(array), &done) != nil {
		return nil // another program wrote it
	}
	return done
}

func parseFailures(number string) int {
	n, err := strconv.ParseFloat(number, 64)
	if n > 0 && (err == nil || errors.Is(err, strconv.ErrRange)) {
		return int(min(n, maxFailures))
	}
	return 0
}

// headerReader walks over the members of an object as PostgreSQL writes it.
type headerReader struct {
	text []byte
	all  string // a copy whose memory strings share, if there is one
	at   int

	key      string
	value    string
	isString bool
	err      error
}

// next goes to the next member. It returns false at the end, or with an error.
func (r *headerReader) next() bool {
	first := r.at == 0
	c := r.space()
	switch {
	case first && c != '{':
		return false
	case !first && c == '}':
		return false
	case !first && c != ',':
		return r.fail()
	}
	r.at++
	if r.space() == '}' && first {
		return false
	}
	var ok bool
	if r.key, ok = r.string(); !ok || r.space() != ':' {
		return r.fail()
	}
	r.at++
	if r.isString = r.space() == '"'; r.isString {
		r.value, ok = r.string()
	} else {
		r.value, ok = r.other()
	}
	return ok || r.fail()
}

func (r *headerReader) fail() bool {
	r.err = errBadHeaders
	return false
}

// space skips white space and returns the byte after it, or 0 at the end.
func (r *headerReader) space() byte {
	for ; r.at < len(r.text); r.at++ {
		if c := r.text[r.at]; c > ' ' {
			return c
		}
	}
	return 0
}

func (r *headerReader) string() (string, bool) {
	if r.at >= len(r.text) || r.text[r.at] != '"' {
		return "", false
	}
	from := r.at + 1
	r.at += tokenLength(r.text[r.at:])
	to := r.at - 1
	if to < from || r.text[to] != '"' {
		return "", false
	}
	if bytes.IndexByte(r.text[from:to], '\\') < 0 {
		if r.all != "" {
			return r.all[from:to], true
		}
		return string(r.text[from:to]), true
	}
	text, ok := unquote(r.text[from:to])
	return string(text), ok
}

// other returns a value that is not a string.
func (r *headerReader) other() (string, bool) {
	from, depth := r.at, 0
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '{' || c == '[':
			depth++
		case depth > 0 && (c == '}' || c == ']'):
			depth--
		case depth == 0 && (c == ',' || c == '}'):
			return string(compact(r.text[from:r.at])), r.at > from
		}
		r.at += tokenLength(r.text[r.at:])
	}
	return "", false
}

// DefaultID is the id of a message that has none.
func DefaultID(queue string, id int64) string { return queue + "/" + strconv.FormatInt(id, 10) }

// DefaultIDOf returns the msg_id of the message of queue whose [DefaultID] uuid is, or nil if it is that of none.
func DefaultIDOf(uuid, queue string) *int64 {
	number, ok := strings.CutPrefix(uuid, queue+"/")
	id, err := strconv.ParseInt(number, 10, 64)
	if !ok || err != nil || DefaultID(queue, id) != uuid {
		return nil
	}
	return &id
}

// IsDefaultID reports whether uuid is, or can become, the id of a message of queue that has none.
func IsDefaultID(uuid, queue string) bool {
	number, ok := strings.CutPrefix(uuid, queue+"/")
	number = strings.TrimPrefix(number, "-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}
