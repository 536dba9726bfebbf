package provision

import (
	"regexp"
	"strings"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/schema"
)

// SQL returns the statements that create what a service needs in a database that has none of it, for the search_path
// pg_catalog.
func SQL(service Service) (string, error) {
	var sql strings.Builder
	for _, t := range service.Topics {
		queues, err := t.queues()
		if err != nil {
			return "", err
		}
		for _, q := range queues {
			if err := q.write(&sql); err != nil {
				return "", err
			}
		}
		for _, q := range queues {
			if len(t.Groups) > 0 && q.topic == t.Topic {
				q.writeBinding(&sql)
			}
		}
	}
	return sql.String(), nil
}

// routingKey returns the name under which PGMQ knows a topic: its own, or that of its queue where PGMQ does not take the
// topic, or it is what a queue could be named.
func routingKey(topic string) string {
	if regexp.MustCompile(`^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$`).MatchString(topic) && len(topic) <= 255 &&
		!regexp.MustCompile(`_h[0-9a-f]{20}$`).MatchString(topic) {
		return topic
	}
	queue, _ := pgmq.QueueName(topic) // was checked
	return queue
}

func literal(text string) string { return schema.Literal(text) + "::text" }
