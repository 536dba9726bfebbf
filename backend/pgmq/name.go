package pgmq

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend"
)

const (
	// maxName is PGMQ's own limit, in bytes. The longest name that PGMQ derives,
	// q_<name>_msg_id_seq, then fits PostgreSQL's 63.
	maxName = 47

	// hashDigits is the length of the hash in a name: 80 bits, so that a search
	// for two topics with one name tries 2⁴⁰ of them.
	hashDigits = 20
	hashMark   = "_h"
	maxPrefix  = maxName - len(hashMark) - hashDigits
)

// QueueName returns the name of the PGMQ queue that holds the messages of topic,
// for access with SQL or another PGMQ client.
//
// A topic of at most 47 lower-case letters, digits and underscores that begins
// with a letter is the name of its queue. Any other topic has a queue named
// after a readable part of it, "_h", and the first 20 hexadecimal digits of its
// SHA-256. So do the few topics that look like such a name, and those whose
// table would have the name of an index, sequence or partition of another queue,
// like "orders_pkey" beside "orders". No two topics share a queue.
//
// An error matches [ErrInvalidTopic]: the topic is empty, is longer than 1024
// bytes, any "_dead" at its end aside, is not UTF-8, or contains a NUL.
func QueueName(topic string) (string, error) {
	return queueName(topic)
}

// No two topics get the same name. A plain topic is its own name, and is plain
// only if it does not have the shape of a hashed name; all other names are
// hashed ones, and two of those are equal only if the hashes of their topics
// are. A hashed name cannot have a derived suffix, for its last word is longer
// than any of those and begins with an h.
func queueName(topic string) (string, error) {
	if err := checkTopic(topic); err != nil {
		return "", err
	}
	if isPlain(topic) && !isHashed(topic) && !isDerived(topic) {
		return topic, nil
	}
	sum := sha256.Sum256([]byte(topic))
	return readablePrefix(topic) + hashMark + hex.EncodeToString(sum[:hashDigits/2]), nil
}

func checkTopic(topic string) error {
	if refused, ok := errors.AsType[*backend.RefusedError](backend.CheckTopic(topic)); ok {
		return &Error{Topic: topic, Kind: ErrInvalidTopic, Cause: refusedTopic{refused}}
	}
	return nil
}

// refusedTopic says no more than the reason: the [Error] around it names the topic.
type refusedTopic struct{ *backend.RefusedError }

// Error implements error.
func (r refusedTopic) Error() string { return r.Reason }

// Unwrap returns the error that every backend has for it.
func (r refusedTopic) Unwrap() error { return r.RefusedError }

// checkUserTopic is for publishing and subscribing: the queue of the schedules has other
// messages, which other code must not receive or add to.
func checkUserTopic(topic string) error {
	if topic == schedulesQueue {
		return &Error{Topic: topic, Kind: ErrInvalidTopic, Cause: errors.New("its queue has what is known about schedules"), Remedy: "choose another name"}
	}
	return checkTopic(topic)
}

// isPlain reports whether topic matches ^[a-z][a-z0-9_]{0,46}$.
func isPlain(topic string) bool {
	if len(topic) > maxName || !isLower(topic[0]) {
		return false
	}
	for i := range len(topic) {
		if c := topic[i]; !isLower(c) && !isDigit(c) && c != '_' {
			return false
		}
	}
	return true
}

func isHashed(topic string) bool {
	i := len(topic) - hashDigits
	if i < len(hashMark) || topic[i-len(hashMark):i] != hashMark {
		return false
	}
	for ; i < len(topic); i++ {
		if c := topic[i]; !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// isDerived reports whether topic ends like a relation that PGMQ or pg_partman
// makes for a queue: q_orders_pkey is an index of orders, and PGMQ, which creates
// what does not exist yet, would take it for the table of the queue orders_pkey.
func isDerived(topic string) bool {
	for _, suffix := range [...]string{"_pkey", "_msg_id_seq", "_vt_idx", "_fifo_idx", "_part_idx", "_default"} {
		if strings.HasSuffix(topic, suffix) {
			return true
		}
	}
	// Partitions are numbered _p10000, or dated _p20260102 or _p2026_01_02.
	i := strings.LastIndex(topic, "_p")
	return i >= 0 && strings.Trim(topic[i+2:], "0123456789_") == "" && i+2 < len(topic) && isDigit(topic[i+2])
}

// readablePrefix returns what is left of topic in a name: letters and digits, with an
// underscore for anything between them. It begins with a letter.
func readablePrefix(topic string) string {
	name := make([]byte, 0, maxPrefix)
	for i := 0; i < len(topic) && len(name) < maxPrefix; i++ {
		c := topic[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		switch {
		case isLower(c):
			name = append(name, c)
		case isDigit(c) && len(name) > 0:
			name = append(name, c)
		case isDigit(c):
			name = append(name, 't', c)
		case len(name) > 0 && name[len(name)-1] != '_':
			name = append(name, '_')
		}
	}
	if len(name) == 0 {
		return "t"
	}
	return strings.TrimRight(string(name), "_")
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// tableName returns the quoted name of a queue's table.
func tableName(queue string) string {
	return pgx.Identifier{"pgmq", "q_" + queue}.Sanitize()
}
