package pgmq

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/ezq-go/ezq/backend/pgmq/internal/catalog"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/queuename"
)

// logMissedFunc logs what a group that was bound a moment ago has missed.
type logMissedFunc func(ctx context.Context, db DBTX, topic, own, queue string)

// missedMessages logs what a group has missed: messages that were published to a topic while the group was
// not bound to it.
type missedMessages struct {
	group        string
	administered bool // an administrator has created the group's queue, and vouches for the owner of that
	logger       *slog.Logger
}

func missedBy(config SubscriberConfig, logger *slog.Logger) missedMessages {
	return missedMessages{config.Group, config.NoCreate, logger}
}

// logNew is for a group that is new, or was unbound.
func (m missedMessages) logNew(ctx context.Context, db DBTX, topic, own, queue string) {
	const text = "ezq: the group was not bound to the topic until now: what waits in the topic's own queue was published before, and does not come to the group"
	if !queueExists(ctx, db, own) {
		return
	}
	n, remedy := m.look(ctx, db, topic, own, queue)
	if n == 0 {
		m.loggerFor(topic, own, n).Info(text)
		return
	}
	m.loggerFor(topic, own, n).Warn(text, remedy...)
}

// logRestored is for a group whose queue was unbound, or else dropped, and gets messages again.
func (m missedMessages) logRestored(ctx context.Context, db DBTX, topic, queue string, unbound bool) {
	m.logOwn(ctx, db, topic, queue)
	logger := m.logger.With("topic", topic, "group", m.group, "queue", queue)
	if unbound {
		logger.Warn("ezq: the queue of the group was unbound from the topic, and gets messages again: what was published meanwhile did not come to it")
	} else {
		logger.Warn("ezq: the queue of the group was dropped, and gets messages again: what was published meanwhile did not come to it")
	}
}

// logOwn logs that the topic's own queue may have what was published meanwhile. A publisher may have created that queue
// while the group had none, and the owner of the group's queue may have bound it again before.
func (m missedMessages) logOwn(ctx context.Context, db DBTX, topic, queue string) {
	own, err := queuename.Of(topic)
	if err != nil || !queueExists(ctx, db, own) {
		return
	}
	n, remedy := m.look(ctx, db, topic, own, queue)
	m.loggerFor(topic, own, n).Warn("ezq: the topic has a queue of its own, which gets every message, and may have what was published meanwhile", remedy...)
}

// look returns how many messages in a topic's own queue a group has missed, and attributes that say what to do. If that
// queue would run the code of an untrusted role, the number is unknown, and to move the messages would run it too.
func (m missedMessages) look(ctx context.Context, db DBTX, topic, own, queue string) (n int, remedy []any) {
	if err := catalog.RequireTrusted(ctx, db, []string{queuename.Table(own)}, catalog.VouchingTable(m.administered, queue)); err != nil {
		return -1, []any{"error", fault.Classify("count what the group has missed", topic, err)}
	}
	return catalog.CountMissed(ctx, db, topic, own, queue), []any{"remedy", moveRemedy(topic), "move", catalog.MoveMissed(topic, own, queue)}
}

func moveRemedy(topic string) string {
	return fmt.Sprintf("if no consumer without a Group reads it: move what the group has missed, as move does,"+
		" then drop it with DropQueue(ctx, %q) of a client without a Group", topic)
}

// loggerFor returns the logger for n messages in a topic's own queue that a group has missed. A negative n is an
// unknown number.
func (m missedMessages) loggerFor(topic, own string, n int) *slog.Logger {
	logger := m.logger.With("topic", topic, "group", m.group, "queue", own)
	if n >= 0 {
		logger = logger.With("waiting", n)
	}
	return logger
}

// queueExists reports whether there is a queue. If not, a group has missed nothing; if that cannot be told,
// another call says what is wrong.
func queueExists(ctx context.Context, db DBTX, queue string) bool {
	found, err := catalog.Probe(ctx, db, queue)
	return err == nil && found.Exists()
}
