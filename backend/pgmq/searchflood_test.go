package pgmq_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// A publisher may store any number of rows with the key, the ID or the header of another one's event.
func TestFind_FloodOfOneKeyHidesNoNewerMessage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		selection backend.Selection
		index     string
	}{
		"the index of keys":    {backend.Selection{UniqueKey: "k"}, ""}, // which the publish below has made
		"the index of IDs":     {backend.Selection{ID: "a"}, "create index on pgmq.q_t using hash ((headers->'ezq_uuid'::text))"},
		"the index of headers": {backend.Selection{Header: "tenant", Value: "t"}, "create index on pgmq.q_t using hash ((headers->'tenant'::text))"},
		"the index of fields":  {backend.Selection{Field: "order.id", Equals: 7}, "create index on pgmq.q_t using hash ((message->'order'->'id'))"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, "select pgmq.create('t')")
			execute(t, pool, test.index)
			execute(t, pool, `insert into pgmq.q_t (vt, message, headers) select 'infinity', '{"flood":1,"order":{"id":7}}', '{"ezq_unique":"t/k", "ezq_uuid":"a", "tenant":"t"}' from generate_series(1, 3000)`)
			msg := conditional(t.Context(), "a", replacing("k", 0), 0)
			msg.Payload, msg.Metadata = []byte(`{"order":{"id":7}}`), message.Metadata{"tenant": "t", "content-type": "application/json"}
			backend.SetDelay(msg, time.Hour)
			require.NoError(t, client.Publish("t", msg))
			client.SearchAtMost(100, time.Minute)
			selection := test.selection
			selection.Limit = 1
			found, err := client.Find(t.Context(), "t", selection)
			require.Len(t, found, 1)
			require.Equal(t, string(msg.Payload), string(found[0].Payload))
			requireFlooded(t, err)
			if test.selection.CheckWaiting() != nil {
				return
			}
			cancelled, err := client.Cancel(t.Context(), "t", test.selection)
			requireFlooded(t, err)
			require.Equal(t, 101, cancelled.Removed)
			require.Zero(t, get[int](t, pool, `select count(*) from pgmq.q_t where not message ? 'flood'`))
		})
	}
}

// requireFlooded requires the error that more has the index than was looked at.
func requireFlooded(t *testing.T, err error) {
	t.Helper()
	truncated := new(backend.TruncatedError)
	require.ErrorAs(t, err, &truncated)
	require.Contains(t, truncated.Reason, "the newest 100 of the rows that have it")
	require.NotContains(t, truncated.Remedy, "CREATE INDEX")
	require.NotContains(t, truncated.Remedy, "create index")
}
