package pgmq_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// Dead letters are moved, to one place, from which Redrive takes them. Who reads their topic with a Group
// waits for nothing, and is told so; what is published to it comes.
func TestGroup_OnDeadLetterTopicIsWarned(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"the group is there before the first dead letter": true, "the group comes after the first dead letter": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := pgtest.Database(t)
			pool, log := pgtest.Pool(t, database), &warnings{}
			watch := openAt(t, database, pgmq.Config{Logger: slog.New(log), Subscriber: pgmq.SubscriberConfig{Group: "watch"}})
			app := openAt(t, database, pgmq.Config{})
			messages := subscribe(t, app)
			if before {
				require.NoError(t, watch.SubscribeInitialize("t_dead"))
			}
			publish(t, app, "1")
			giveUpTo(t, receive(t, messages), "t_dead", "t")
			pgtest.Eventually(t, patience, "a dead letter", func() bool {
				return get[bool](t, pool, "select to_regclass('pgmq.q_t_dead') is not null") && get[int](t, pool, "select count(*) from pgmq.q_t_dead") == 1
			})
			watched, err := watch.Subscribe(t.Context(), "t_dead")
			require.NoError(t, err)
			require.Contains(t, strings.Join(log.all(), "\n"), "dead letters are moved to the topic's own queue, and come to no group")
			publish(t, app, "2")
			giveUpTo(t, receive(t, messages), "t_dead", "t")
			requireCount(t, pool, "pgmq.q_t_dead", 2)
			moved, err := redrive(t.Context(), app, "t_dead", 10)
			require.NoError(t, err)
			require.Equal(t, 2, moved)
			requireReceives(t, messages, "1", "2")
			require.NoError(t, app.Publish("t_dead", message.NewMessage("published", nil)))
			requireReceives(t, watched, "published")
		})
	}
}
