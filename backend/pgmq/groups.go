package pgmq

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// groupQueue returns the name of the queue in which a group gets its copies of
// the messages of topic. It has the shape of a hashed name, and as no topic
// contains a NUL, it is not the name of any topic's queue.
func groupQueue(topic, group string) (string, error) {
	if err := checkTopic(topic); err != nil {
		return "", err
	}
	if err := checkTopic(group); err != nil {
		return "", &Error{Topic: topic, Kind: ErrInvalidConfig, Cause: fmt.Errorf("%q cannot be the name of a group", group)}
	}
	sum := sha256.Sum256([]byte(topic + "\x00" + group))
	return readable(topic+" "+group) + hashMark + hex.EncodeToString(sum[:hashDigits/2]), nil
}

// routingKey returns the name under which PGMQ knows topic: its own, so that
// pgmq.send_topic reaches the same queues, or that of its queue, where PGMQ does
// not take the topic (validate_routing_key, PGMQ 1.11.1).
func routingKey(topic string) string {
	valid := len(topic) <= 255 && !strings.HasPrefix(topic, ".") && !strings.HasSuffix(topic, ".") && !strings.Contains(topic, "..")
	for i := range len(topic) {
		c := topic[i]
		valid = valid && (isLower(c|0x20) || isDigit(c) || c == '.' || c == '_' || c == '-')
	}
	if valid {
		return topic
	}
	queue, _ := queueName(topic) // was checked before
	return queue
}

// bind makes sure that queue gets a copy of every message of topic.
//
// If the topic's own queue exists, it is bound too: there may be consumers of it,
// and they would get nothing any more.
func bind(ctx context.Context, db DB, topic, queue string) error {
	bound, err := bindings(ctx, db, topic)
	if err != nil {
		return err
	}
	own, err := queueName(topic)
	if err != nil {
		return err
	}
	for _, q := range []string{queue, own} {
		if slices.Contains(bound.Queues, q) {
			continue
		}
		_, err := db.Exec(ctx, "select pgmq.bind_topic($1, queue_name) from pgmq.meta where queue_name = $2::text",
			pgx.QueryExecModeCacheDescribe, routingKey(topic), q)
		if err != nil {
			return err
		}
	}
	return nil
}

// join is bind for a consumer without a group, of a topic that may have groups.
func join(ctx context.Context, db DB, topic, queue string) error {
	bound, err := bindings(ctx, db, topic)
	if errors.Is(err, ErrPermission) {
		return nil // whoever set up the role has set up the bindings
	}
	if err != nil || len(bound.Queues) == 0 || slices.Contains(bound.Queues, queue) {
		return err
	}
	return bind(ctx, db, topic, queue)
}

func groupsUnsupported() error {
	return &Error{
		Kind: ErrTooOld, Cause: fmt.Errorf("it has no topic bindings, which groups are made of: %w", errors.ErrUnsupported),
		Remedy: "update PGMQ to 1.11 or later, or subscribe without a Group",
	}
}
