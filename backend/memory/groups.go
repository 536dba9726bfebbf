package memory

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/ezq-go/ezq/backend"
)

// errHasGroups is why a consumer without a group is refused.
var errHasGroups = fmt.Errorf("%w: the topic has groups, and no queue of its own: what was published so far is not there for a consumer without a group;"+
	" set Config.Group; or declare the topic's own queue, which gets what is published from then on: call SubscribeInitialize of a Broker without a Group",
	backend.ErrGroupRequired)

// errPatternUngrouped is why a consumer without a group is refused by a pattern.
var errPatternUngrouped = fmt.Errorf("%w: it is a pattern, and a topic's own queue gets the events of that topic only;"+
	" set Config.Group, for a queue that gets those of each topic which the pattern matches", backend.ErrGroupRequired)

// checkSubscribed returns an error if consumers cannot subscribe to topic: a group, or, where that is "", consumers
// without one.
func checkSubscribed(topic, group string) error {
	switch {
	case group == "" && backend.IsPattern(topic):
		return errPatternUngrouped
	case group != "" && strings.ContainsAny(topic, "*#") && !strings.HasSuffix(topic, backend.DeadLetterSuffix):
		return backend.CheckPattern(topic)
	}
	return nil
}

// checkKey returns a *[backend.RefusedError] if no message has the UniqueKey of a selection.
func checkKey(topic string, s backend.Selection) error {
	if s.UniqueKey == "" || !backend.IsPattern(topic) {
		return nil
	}
	return &backend.RefusedError{
		What: "the UniqueKey of the selection", Reason: "the topic is a pattern, and unique keys are those of single topics",
		Remedy: "ask for the topic that the message was published to, which includes the groups that take it by a pattern",
	}
}

// logJoined logs what a group that has come a moment ago does not get. missed is how many messages are in the topic's own queue, or
// negative.
func logJoined(logger *slog.Logger, topic, group string, missed int) {
	logger = logger.With("topic", topic, "group", group)
	if strings.HasSuffix(topic, backend.DeadLetterSuffix) {
		logger.Warn("ezq: dead letters are moved to the topic's own queue, and come to no group: read them without a Group")
	}
	const text = "ezq: the group was not bound to the topic until now: what waits in the topic's own queue was published before, and does not come to the group"
	switch {
	case missed == 0:
		logger.Info(text, "waiting", missed)
	case missed > 0:
		logger.Warn(text, "waiting", missed, "remedy", "have a consumer without a Group read it, or declare the group, with SubscribeInitialize, before anything is published")
	}
}
