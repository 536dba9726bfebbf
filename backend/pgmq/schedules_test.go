package pgmq_test

import (
	"fmt"
	"strings"
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

func TestSchedules_SayWhatTheyLeaveOut(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	tryTick(t, client, "nightly", time.Now())
	execute(t, pool, `insert into pgmq.q_ezq_schedules (msg_id, vt, message) overriding system value
		select -n, 'infinity', jsonb_build_object('schedule', 's' || n, 'last', now()) from generate_series(1, 10000) as n`)
	all, err := client.Schedules().List(t.Context())
	require.ErrorAs(t, err, new(*backend.TruncatedError))
	require.ErrorContains(t, err, "only the first 10000 schedules")
	require.Len(t, all, 10_000)
	require.Equal(t, "nightly", all[0].Name)
}

func TestSchedules_OfAnotherProcessArePaused(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	program, operator := openAt(t, database, pgmq.Config{}), openAt(t, database, pgmq.Config{})
	schedules := operator.Schedules()
	all, err := schedules.List(t.Context())
	require.NoError(t, err)
	require.Empty(t, all, "there is no queue for them")
	audit := backend.Pause{By: "ada", Reason: "audit", For: time.Hour}
	_, err = schedules.Pause(t.Context(), "nightly", audit)
	require.ErrorAs(t, err, new(*backend.RefusedError))
	require.ErrorContains(t, err, `the schedule "nightly"`)

	begun := tryTick(t, program, "nightly", time.Now())
	tryTick(t, program, "hourly", time.Now())
	paused, err := schedules.Pause(t.Context(), "nightly", audit)
	require.NoError(t, err)
	require.Equal(t, time.Hour, paused.Until.Sub(paused.Since))
	require.Equal(t, backend.TickPaused, tryTick(t, program, "nightly", begun.Now.Add(time.Microsecond)).Outcome)
	require.Zero(t, countStored(t, program))
	all, err = schedules.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, "hourly", all[0].Name)
	require.Nil(t, all[0].Paused)
	require.Equal(t, "ada", all[1].Paused.By)
	require.WithinDuration(t, paused.Until, all[1].Paused.Until, time.Millisecond)
	_, err = schedules.Pause(t.Context(), "daily", audit)
	require.ErrorAs(t, err, new(*backend.RefusedError))
	resumed, err := schedules.Resume(t.Context(), "nightly")
	require.NoError(t, err)
	require.True(t, resumed)
	require.Equal(t, backend.TickPaused, tryTick(t, program, "nightly", paused.Since.Add(time.Microsecond)).Outcome, "its time came in the pause")
	now := tryTick(t, program, "nightly", time.Now().Add(time.Hour)).Now
	require.Equal(t, backend.TickPublished, tryTick(t, program, "nightly", now).Outcome)
}

// A tick that was missed before the pause is made up for, as without one.
func TestSchedules_PauseTakesOnlyWhatPassesInIt(t *testing.T) {
	t.Parallel()
	client, _ := open(t, pgmq.Config{})
	begun := tryTick(t, client, "nightly", time.Now())
	pause := func(d time.Duration) backend.Paused {
		t.Helper()
		paused, err := client.Schedules().Pause(t.Context(), "nightly", backend.Pause{By: "ada", Reason: "audit", For: d})
		require.NoError(t, err)
		return paused
	}
	resume := func() {
		t.Helper()
		resumed, err := client.Schedules().Resume(t.Context(), "nightly")
		require.NoError(t, err)
		require.True(t, resumed)
	}
	pause(time.Hour)
	resume()
	require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", begun.Now.Add(time.Microsecond)).Outcome)
	resumed, err := client.Schedules().Resume(t.Context(), "nightly")
	require.NoError(t, err)
	require.False(t, resumed)

	first := pause(time.Hour)
	second := pause(2 * time.Hour)
	resume()
	all, err := client.Schedules().List(t.Context())
	require.NoError(t, err)
	require.Nil(t, all[0].Paused)
	require.True(t, all[0].Last.Equal(second.Since), "nothing before a pause that was replaced is made up for")
	require.Equal(t, backend.TickTaken, tryTick(t, client, "nightly", first.Since.Add(time.Microsecond)).Outcome)
}

// Any role that may write there may have stored times that JSON cannot have.
func TestSchedules_WithNonsenseAreResumed(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	tryTick(t, client, "nightly", time.Now())
	execute(t, pool, `update pgmq.q_ezq_schedules set message = message || '{"paused": {"by": 7, "since": "9999-12-31T23:59:59-24:00", "until": "never"}}'`)
	resumed, err := client.Schedules().Resume(t.Context(), "nightly")
	require.NoError(t, err)
	require.True(t, resumed)
	now := tryTick(t, client, "nightly", time.Now().Add(time.Hour)).Now
	require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", now).Outcome)
}

// Other programs with schedules may write whatever they like.
func TestSchedules_ListNonsense(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	begun := tryTick(t, client, "nightly", time.Now())
	tryTick(t, client, "hourly", time.Now())
	execute(t, pool, `update pgmq.q_ezq_schedules set message = message || ('{"next": 7, "last": [], "paused": {"by": "' || repeat('x', 300) || '", "reason": 1e131071, "until": "never"}}')::jsonb where message->>'schedule' = 'hourly'`)
	execute(t, pool, `update pgmq.q_ezq_schedules set message = message || '{"paused": "for ever", "next": "294276-12-31T00:00:00+00:00"}' where message->>'schedule' = 'nightly'`)
	execute(t, pool, `insert into pgmq.q_ezq_schedules (msg_id, vt, message) overriding system value values (-1, now(), '"x"'), (-2, now(), null),
		(-3, now(), ('{"schedule":[' || repeat('1e130000,', 9000) || '0]}')::jsonb),
		(-4, now(), ('{"schedule":"x","last":[' || repeat('1e130000,', 9000) || '0]}')::jsonb)`)
	all, err := client.Schedules().List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, backend.ScheduleState{Name: "x"}, all[2])
	require.Len(t, all[0].Paused.By, backend.MaxPauseAuthor)
	require.Empty(t, all[0].Paused.Reason)
	require.True(t, all[0].Paused.Until.IsZero(), "an end that is no time")
	require.Nil(t, all[1].Paused)
	require.Zero(t, all[1].Next)
	require.Equal(t, backend.TickPublished, tryTick(t, client, "nightly", begun.Now.Add(time.Microsecond)).Outcome)
}

// Not in parallel: it measures the memory of the process.
func TestSchedules_LongNamesTakeNoMemoryAndHideNone(t *testing.T) {
	client, pool := open(t, pgmq.Config{})
	tryTick(t, client, "nightly", time.Now())
	longest := strings.Repeat("n", backend.MaxTopic)
	tryTick(t, client, longest, time.Now())
	_, err := client.Schedules().Pause(t.Context(), longest, backend.Pause{By: strings.Repeat("b", backend.MaxPauseAuthor), Reason: strings.Repeat("r", backend.MaxPauseReason)})
	require.NoError(t, err)
	execute(t, pool, `insert into pgmq.q_ezq_schedules (msg_id, vt, message) overriding system value
		select -n, 'infinity', jsonb_build_object('schedule', lpad(n::text, 6, '0') || repeat('x', 131000)) from generate_series(1, 300) n`)
	before, began := heap(), time.Now()
	all, err := client.Schedules().List(t.Context())
	took := int64(heap()) - int64(before)
	t.Logf("%d kB, %v", took>>10, time.Since(began))
	require.NoError(t, err)
	require.Len(t, all, 2)
	require.Equal(t, []string{"nightly", longest}, []string{all[0].Name, all[1].Name})
	require.Len(t, all[1].Paused.Reason, backend.MaxPauseReason)
	require.Less(t, took, int64(1<<20))
}

func TestSchedules_ThatTakeLongToReadHideNoOther(t *testing.T) {
	t.Parallel()
	client, pool := open(t, pgmq.Config{})
	tryTick(t, client, "nightly", time.Now())
	execute(t, pool, `insert into pgmq.q_ezq_schedules (msg_id, vt, message) overriding system value
		select -n, 'infinity', jsonb_build_object('schedule', lpad(n::text, 6, '0') || repeat('x', 500000)) from generate_series(1, 6000) n`)
	began := time.Now()
	all, err := client.Schedules().List(t.Context())
	t.Logf("%v: %v", time.Since(began), err)
	require.Len(t, all, 1)
	if err != nil { // the machine is not fast enough to read them all
		require.ErrorAs(t, err, new(*backend.TruncatedError))
	}
}

func TestSchedules_NeedFewRights(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	tryTick(t, openAt(t, database, pgmq.Config{}), "nightly", time.Now())
	const reading = "grant usage on schema pgmq to {role}; grant select (msg_id, message) on pgmq.q_ezq_schedules to {role}"
	reader := openAt(t, pgtest.Role(t, database, reading), pgmq.Config{}).Schedules()
	all, err := reader.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
	_, err = reader.Pause(t.Context(), "nightly", backend.Pause{By: "ada", Reason: "audit"})
	require.ErrorIs(t, err, pgmq.ErrPermission)
	require.ErrorContains(t, err, `GRANT SELECT (msg_id, message), UPDATE (message) ON "pgmq"."q_ezq_schedules" TO the role`)
	_, err = openAt(t, pgtest.Role(t, database, "grant usage on schema pgmq to {role}"), pgmq.Config{}).Schedules().List(t.Context())
	require.ErrorIs(t, err, pgmq.ErrPermission)
	writer := openAt(t, pgtest.Role(t, database, reading, "grant update (message) on pgmq.q_ezq_schedules to {role}"), pgmq.Config{}).Schedules()
	_, err = writer.Pause(t.Context(), "nightly", backend.Pause{By: "ada", Reason: "audit"})
	require.NoError(t, err)
	resumed, err := writer.Resume(t.Context(), "nightly")
	require.NoError(t, err)
	require.True(t, resumed)
}
