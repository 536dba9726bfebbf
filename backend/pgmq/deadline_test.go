package pgmq_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
)

// writeForSeconds has PostgreSQL write out an array for ten seconds, and notice only then that it was to stop, as it
// does with one of a gigabyte where the machine is busy. The sequence written counts them.
func writeForSeconds(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	execute(t, pool, "create sequence written")
	execute(t, pool, `create function written(jsonb) returns text language plpgsql as $$
		declare till timestamptz := clock_timestamp() + interval '10 seconds';
		begin
			if jsonb_typeof($1) = 'array' then
				perform nextval('written');
				while clock_timestamp() < till loop
					begin
						perform pg_sleep_until(till);
					exception when query_canceled then null;
					end;
				end loop;
				raise exception 'canceled' using errcode = '57014';
			end if;
			return format('%s', $1);
		end $$`)
	execute(t, pool, "create cast (jsonb as text) with function written(jsonb)")
}

// The client gives up before PostgreSQL does. What it reads next is screened all the same, for as long
// as PostgreSQL keeps locked what it was to read.
func TestScreening_ReadsMessageBeyondDeadlineOnce(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]pgmq.SubscriberConfig{
		"the message is locked": {},
		"the message is leased": {LeaseOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{Subscriber: config})
			messages := subscribe(t, client)
			warmUp(t, client, messages)
			requireCount(t, pool, "pgmq.q_t", 0)
			writeForSeconds(t, pool)
			insertBombs(t, pool, 20, numbers(9000, "1e100000"), "null")
			for range 10 {
				publish(t, client, "after")
				msg := receive(t, messages)
				require.Equal(t, "after", msg.UUID)
				msg.Ack()
			}
			requireCount(t, pool, "pgmq.a_t", 20)
			requireCount(t, pool, "pgmq.q_t", 0)
			require.Less(t, get[int](t, pool, "select last_value::int from written"), 10, "so many claims have met one") // 1 on a machine of its own
		})
	}
}
