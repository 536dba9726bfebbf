package pgmq_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// insertVictim stores a delayed event, and behind it rows that are never due, which any publisher may write.
func insertVictim(t *testing.T, client *pgmq.Client, pool *pgxpool.Pool, rows int, message, headers string) {
	t.Helper()
	msg := victim()
	require.NoError(t, client.Publish("t", msg))
	execute(t, pool, fmt.Sprintf(`with one as materialized (select (%s)::jsonb as message, (%s)::jsonb as headers)
		insert into pgmq.q_t (vt, message, headers) select 'infinity', message, headers from one`, message, headers))
	execute(t, pool, fmt.Sprintf(`insert into pgmq.q_t (vt, message, headers)
		select vt, message, headers from pgmq.q_t, generate_series(1, %d) where msg_id = (select max(msg_id) from pgmq.q_t)`, rows-1))
}

func victim() *message.Message {
	msg := message.NewMessage("victim", []byte(`{"_type":"E","order":{"id":7}}`))
	msg.Metadata = message.Metadata{"content-type": "application/json"}
	backend.SetDelay(msg, time.Hour)
	return msg
}

func TestFind_LargeRowsHideNoMessage(t *testing.T) {
	t.Parallel()
	byID, byEvent, byHeader := backend.Selection{ID: "victim"}, backend.Selection{Event: "E"}, backend.Selection{Header: "content-type", Value: "application/json"}
	byField := backend.Selection{Field: "order.id", Equals: 7}
	for name, test := range map[string]struct {
		rows             int
		message, headers string
		selections       []backend.Selection
		reason           string
	}{
		"headers that none receives": {
			100, "'{}'", "jsonb_build_object('x', repeat('x', 50000000))",
			[]backend.Selection{byID, byEvent, byHeader, byField},
			"messages whose headers take more than 256 KiB were left out: to see those, which no consumer takes, run select msg_id from",
		},
		"headers that take long in all": {
			500, "'{}'", "jsonb_build_object('x', repeat('x', 20000000))",
			[]backend.Selection{byID, byEvent, byHeader},
			"a statement took longer than 1s, and messages with large headers ",
		},
		"payloads that take long in all": {
			150, "jsonb_build_object('x', repeat('x', 50000000))", "'{}'",
			[]backend.Selection{byEvent, byField},
			"a statement took longer than 1s, and messages with large headers or payloads were left out: to look at all of them",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			insertVictim(t, client, pool, test.rows, test.message, test.headers)
			client.SearchAtMost(100_000, time.Second)
			for _, s := range test.selections {
				start := time.Now()
				found, err := client.Find(t.Context(), "t", s)
				require.Len(t, found, 1, "%+v", s)
				require.Equal(t, "victim", found[0].ID)
				require.ErrorAs(t, err, new(*backend.TruncatedError))
				require.ErrorContains(t, err, test.reason)
				t.Logf("%+v took %v", s, time.Since(start))
			}
			if slices.Contains(test.selections, byID) {
				moved, err := client.Reschedule(t.Context(), "t", byID, time.Now().Add(2*time.Hour))
				require.ErrorContains(t, err, test.reason)
				require.Equal(t, backend.Rescheduled{Moved: 1}, moved)
				cancelled, err := client.Cancel(t.Context(), "t", byID)
				require.ErrorContains(t, err, test.reason)
				require.Equal(t, backend.Cancelled{Removed: 1}, cancelled)
			}
		})
	}
}
