package pgmq_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ezq-go/ezq/backend/internal/model"
	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestClient_MatchesModel(t *testing.T) {
	t.Parallel()
	for round := range 3 { // of as many sequences each as rapid's flag -rapid.checks says
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Publisher: pgmq.PublisherConfig{NoNotify: true}, Subscriber: pgmq.SubscriberConfig{NoListen: true}})
			checked := &modelEnv{client: client, pool: pool}
			rapid.Check(t, func(t *rapid.T) { model.Check(t, checked.subject(t)) })
		})
	}
}

// modelEnv is a queue that the model is compared with.
type modelEnv struct {
	client *pgmq.Client
	pool   *pgxpool.Pool
}

func (m *modelEnv) subject(t *rapid.T) model.Subject {
	stores := map[string]subscription.Store{}
	for _, topic := range []string{"t", "t_dead"} {
		store, err := m.client.Store(t.Context(), topic)
		require.NoError(t, err)
		m.execute(t, fmt.Sprintf("truncate pgmq.q_%s restart identity", topic))
		stores[topic] = store
	}
	return model.Subject{
		Publisher: m.client,
		Store:     func(topic string) subscription.Store { return stores[topic] },
		EndLease: func(topic, uuid string) {
			m.execute(t, fmt.Sprintf("update pgmq.q_%s set vt = clock_timestamp() where headers->>'ezq_uuid' = '%s'", topic, uuid))
		},
		Purge:   func(topic string) int { return count(t)(m.client.PurgeQueue(t.Context(), topic)) },
		Redrive: func(limit int) int { return count(t)(redrive(t.Context(), m.client, "t_dead", limit)) },
	}
}

func (m *modelEnv) execute(t *rapid.T, sql string) {
	_, err := m.pool.Exec(context.Background(), sql)
	require.NoError(t, err)
}

func count(t *rapid.T) func(n int, err error) int {
	return func(n int, err error) int {
		require.NoError(t, err)
		return n
	}
}
