package pgmq_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// All programs with schedules may write what is known of each other's.
func TestSchedule_ReportsNonsensePosition(t *testing.T) {
	t.Parallel()
	for name, message := range map[string]string{
		"a position far ahead":             `{"schedule":"nightly","last":"2999-01-01T00:00:00+00:00"}`,
		"a position at the end of time":    `{"schedule":"nightly","last":"294276-12-31T00:00:00+00:00"}`,
		"an infinite position":             `{"schedule":"nightly","last":"infinity"}`,
		"a position that is no time":       `{"schedule":"nightly","last":"\u001b[31m` + confidential + `"}`,
		"a position that is a number":      `{"schedule":"nightly","last":1e131071}`,
		"no position":                      `{"schedule":"nightly"}`,
		"the position of another schedule": `{"schedule":"` + confidential + `","last":"2020-01-01T00:00:00+00:00"}`,
		"a row that is no object":          `"` + confidential + `"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, pool := open(t, pgmq.Config{})
			tryTick(t, client, "nightly", time.Now())
			_, err := pool.Exec(t.Context(), "update pgmq.q_ezq_schedules set message = $1::text::jsonb", message)
			require.NoError(t, err)
			err = publishTick(t, client, "nightly", time.Now())
			requireConfidential(t, err)
			require.ErrorIs(t, err, pgmq.ErrRejected)
			require.NotContains(t, err.Error(), "\x1b")
			id := get[int64](t, pool, "select msg_id from pgmq.q_ezq_schedules")
			for _, part := range []string{`publish to "reports"`, `schedule "nightly"`, fmt.Sprintf(`DELETE FROM "pgmq"."q_ezq_schedules" WHERE msg_id = %d`, id)} {
				require.ErrorContains(t, err, part)
			}
			execute(t, pool, fmt.Sprintf(`DELETE FROM "pgmq"."q_ezq_schedules" WHERE msg_id = %d`, id))
			begun := tryTick(t, client, "nightly", time.Now())
			require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", begun.Now.Add(time.Microsecond)).Outcome)
		})
	}
}

func publishTick(t *testing.T, publisher message.Publisher, schedule string, at time.Time) error {
	t.Helper()
	msg := message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), &backend.ScheduleTick{Schedule: schedule, At: at}), "1", []byte("{}"))
	return publisher.Publish("reports", msg)
}

func TestSchedule_ToleratesClockSteppingBack(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	tryTick(t, client, "nightly", time.Now())
	execute(t, pool, `update pgmq.q_ezq_schedules set message = jsonb_set(message, '{last}', to_jsonb(clock_timestamp() + interval '30 seconds'))`)
	require.Equal(t, backend.TickTaken, tryTick(t, client, "nightly", time.Now()).Outcome)
}

// PostgreSQL writes a time in the zone of the session.
func TestSchedule_ContinuesInAnyTimeZone(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	at := tryTick(t, openAt(t, database, pgmq.Config{}), "nightly", time.Now()).Now
	for _, zone := range []string{"Asia/Kathmandu", "America/St_Johns", "UTC"} {
		client := openAt(t, database+"&timezone="+zone, pgmq.Config{})
		at = at.Add(time.Microsecond)
		require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", at).Outcome, zone)
		require.Equal(t, backend.TickTaken, tryTick(t, client, "nightly", at).Outcome, zone)
	}
}
