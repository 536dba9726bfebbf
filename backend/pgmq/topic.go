package pgmq

import (
	"errors"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
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
	queue, err := queuename.Of(topic)
	return queue, fault.Classify("", "", err)
}

// GroupQueueName returns the name of the PGMQ queue in which a group gets its copies of the messages of topic, which may
// be a pattern: see SubscriberConfig.Group. It begins with a readable part of both names, and ends with "_h" and 20
// hexadecimal digits of a SHA-256 of them. It is never that of a topic, nor that of another group.
//
// An error matches [ErrInvalidTopic]: the topic or the group is what [QueueName] refuses.
func GroupQueueName(topic, group string) (string, error) {
	queue, err := queuename.OfGroup(topic, group)
	return queue, fault.Classify("", "", err)
}

// queueOf returns the queue of a topic's own, or that of a group.
func queueOf(topic, group string) (string, error) {
	if group == "" {
		return queuename.Of(topic)
	}
	return queuename.OfGroup(topic, group)
}

// checkUserTopic is for publishing and subscribing: the queue of the schedules has other
// messages, which other code must not receive or add to.
func checkUserTopic(topic string) error {
	if topic == schedulesQueue {
		return &Error{Topic: topic, Kind: ErrInvalidTopic, Cause: errors.New("its queue has what is known about schedules"), Remedy: "choose another name"}
	}
	return queuename.Check(topic)
}

// checkPublishTopic is checkUserTopic for publishing.
func checkPublishTopic(topic string) error {
	if err := checkUserTopic(topic); err != nil {
		return err
	}
	return invalidTopic(topic, backend.CheckPublishTopic(topic))
}

// invalidTopic returns the [*Error] for a [*backend.RefusedError], or nil.
func invalidTopic(topic string, err error) error {
	refused, ok := errors.AsType[*backend.RefusedError](err)
	if !ok {
		return nil
	}
	return &Error{Topic: topic, Kind: ErrInvalidTopic, Cause: queuename.InvalidTopic(topic, refused), Remedy: refused.Remedy}
}

// checkSubscribed returns an error if consumers cannot subscribe to topic: a group, or, where that is "", consumers
// without one.
func checkSubscribed(topic, group string) error {
	switch {
	case group == "" && backend.IsPattern(topic):
		return &Error{
			Kind: ErrGroupRequired, Cause: errors.New("it is a pattern, and a topic's own queue gets the events of that topic only"),
			Remedy: "set SubscriberConfig.Group, for a queue that gets those of each topic which the pattern matches",
		}
	case group != "" && strings.ContainsAny(topic, "*#") && !strings.HasSuffix(topic, backend.DeadLetterSuffix):
		return invalidTopic(topic, backend.CheckPattern(topic))
	}
	return nil
}

// ownQueue returns the name of the topic's own queue, or "" for what cannot be a topic.
func ownQueue(topic string) string {
	own, _ := queuename.Of(topic)
	return own
}
