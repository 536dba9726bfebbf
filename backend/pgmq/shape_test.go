package pgmq_test

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func TestQueue_WithOtherShapeIsRefused(t *testing.T) {
	t.Parallel()
	const columns = `enqueued_at timestamptz not null default now(), vt timestamptz not null, `
	for name, test := range map[string]struct {
		sql  string
		kind error
	}{
		"a table with other columns": {"create table pgmq.q_t (id int)", pgmq.ErrNotAQueue},
		"a table with other types":   {"create table pgmq.q_t (msg_id text, read_ct int, " + columns + "message text, headers text)", pgmq.ErrNotAQueue},
		"a view": {
			"create view pgmq.q_t as select 1::bigint as msg_id, 0 as read_ct, now() as enqueued_at, now() as vt, '{}'::jsonb as message, '{}'::jsonb as headers",
			pgmq.ErrNotAQueue,
		},
		"a queue from before PGMQ 1.5": {
			"create table pgmq.q_t (msg_id bigint generated always as identity, read_ct int default 0 not null, " + columns + "message jsonb)",
			pgmq.ErrTooOld,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			execute(t, pool, test.sql)
			err := client.Publish("t", message.NewMessage("1", nil))
			require.ErrorIs(t, err, test.kind)
			require.ErrorIs(t, err, pgmq.ErrRejected)
			_, err = client.Subscribe(t.Context(), "t")
			require.ErrorIs(t, err, test.kind)
		})
	}
}
