// Package queuename gives the queues of topics and groups their names, and tells the names of their
// tables. A topic always has the same name, and no two topics or groups have one in common.
package queuename

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
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

// Of returns the name of the queue that holds the messages of topic.
//
// No two topics get the same name. A plain topic is its own name, and is plain
// only if it does not have the shape of a hashed name; all other names are
// hashed ones, and two of those are equal only if the hashes of their topics
// are. A hashed name cannot have a derived suffix, for its last word is longer
// than any of those and begins with an h.
func Of(topic string) (string, error) {
	if err := Check(topic); err != nil {
		return "", err
	}
	if isPlain(topic) && !isHashed(topic) && !isDerived(topic) {
		return topic, nil
	}
	sum := sha256.Sum256([]byte(topic))
	return readablePrefix(topic) + hashMark + hex.EncodeToString(sum[:hashDigits/2]), nil
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

// SaysTopic reports whether queue has the name of its topic, and else has to be labelled.
func SaysTopic(queue string) bool { return !isHashed(queue) }

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

// isDigit reports whether c is a decimal digit of ASCII.
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// What PGMQ puts before the name of a queue, for the name of its table and that of its archive.
const (
	QueuePrefix   = "q_"
	ArchivePrefix = "a_"
)

// Table returns the quoted name of a queue's table.
func Table(queue string) string { return pgx.Identifier{"pgmq", QueuePrefix + queue}.Sanitize() }

// Archive returns the quoted name of a queue's archive.
func Archive(queue string) string { return pgx.Identifier{"pgmq", ArchivePrefix + queue}.Sanitize() }

// OfGroup returns the name of the queue in which a group gets its copies of
// the messages of topic. It has the shape of a hashed name, and as no topic
// contains a NUL, it is not the name of any topic's queue.
func OfGroup(topic, group string) (string, error) {
	if err := Check(topic); err != nil {
		return "", err
	}
	if err := CheckGroup(group); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(topic + "\x00" + group))
	return readablePrefix(topic+" "+group) + hashMark + hex.EncodeToString(sum[:hashDigits/2]), nil
}

// RoutingKey returns the name under which PGMQ knows topic: its own, so that
// pgmq.send_topic reaches the same queues, or that of its queue, where PGMQ does
// not take the topic (validate_routing_key, PGMQ 1.11.1) or it is what another one's
// queue could be named. No two topics have the same key: the own names do not have the
// shape of a hashed name, and all others do.
func RoutingKey(topic string) string {
	valid := len(topic) <= 255 && !strings.HasPrefix(topic, ".") && !strings.HasSuffix(topic, ".") && !strings.Contains(topic, "..")
	for i := range len(topic) {
		valid = valid && isInRoutingKey(topic[i])
	}
	if valid && !isHashed(topic) {
		return topic
	}
	queue, _ := Of(topic) // was checked before
	return queue
}

// isInRoutingKey reports whether a routing key of PGMQ, and a pattern, may have the byte.
func isInRoutingKey(c byte) bool {
	return isLower(c|0x20) || isDigit(c) || c == '.' || c == '_' || c == '-'
}

// ForPatterns returns topic as the patterns of groups are compared with it: with ? for each byte that no pattern
// has, so that any encoding of PostgreSQL has it. What is itself a pattern stays as it is. The topic of dead letters,
// which come to no group, is nil.
func ForPatterns(topic string) *string {
	if backend.IsPattern(topic) {
		return &topic
	}
	if strings.HasSuffix(topic, backend.DeadLetterSuffix) {
		return nil
	}
	text := []byte(topic)
	for i, c := range text {
		if !isInRoutingKey(c) {
			text[i] = '?'
		}
	}
	return new(string(text))
}

// GroupPattern returns a regular expression for the names that OfGroup gives.
func GroupPattern(topic string) string {
	topic = strings.TrimRight(strings.TrimSuffix(readablePrefix(topic+" g"), "g"), "_") // as where the group adds nothing readable
	return "^" + topic + "[a-z0-9_]*" + hashMark + "[0-9a-f]{" + fmt.Sprint(hashDigits) + "}$"
}

// IsGroup reports whether queue has the name of one of the groups of topic.
func IsGroup(topic, queue string) bool {
	own, err := Of(topic)
	if err != nil || queue == own {
		return false
	}
	isGroup, err := regexp.MatchString(GroupPattern(topic), queue)
	return isGroup && err == nil
}

// Check returns an [*InvalidError] if no queue can have the topic's name.
func Check(topic string) error { return InvalidTopic(topic, backend.CheckTopic(topic)) }

// InvalidTopic returns the [*InvalidError] for a *[backend.RefusedError], or nil.
func InvalidTopic(topic string, err error) error {
	if refused, ok := errors.AsType[*backend.RefusedError](err); ok {
		return &InvalidError{Topic: topic, refused: refused}
	}
	return nil
}

// InvalidError says why no queue can have the name of a topic. It says no more than the reason:
// the error around it names the topic.
type InvalidError struct {
	Topic   string
	refused *backend.RefusedError
}

// Error implements error.
func (e *InvalidError) Error() string { return e.refused.Reason }

// Unwrap returns the error that every backend has for it.
func (e *InvalidError) Unwrap() error { return e.refused }

// CheckGroup holds the names of groups to what the names of topics are held to.
func CheckGroup(group string) error { return backend.CheckTopic(group) }
