package command

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// runSchedule runs a timetable until the database knows its schedule.
func runSchedule(t *testing.T, client *pgmq.Client, name string) {
	t.Helper()
	timetable, err := schedule.New(client, nil)
	require.NoError(t, err)
	require.NoError(t, timetable.Add(name, schedule.Every(24*time.Hour), OrderPaid{}))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- timetable.Run(ctx) }()
	require.Eventually(t, func() bool {
		all, err := client.Schedules().List(t.Context())
		return err == nil && len(all) > 0
	}, 30*time.Second, 10*time.Millisecond)
	stop()
	require.NoError(t, <-ended)
}

func TestSchedules_ArePausedAndResumed(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	code, out, errOut := outputOf(t, database, "schedules")
	require.Zero(t, code, errOut)
	require.Equal(t, "There are no schedules in this database.\n", out)

	runSchedule(t, client, "report\x1b")
	code, out, errOut = outputOf(t, database, "schedules")
	require.Zero(t, code, errOut)
	require.Equal(t, "SCHEDULE LAST NEXT\n\"report\\x1b\" TIME TIME\n", out)

	code, out, errOut = outputOf(t, database, "schedules", "pause", "report\x1b", "--by", "ada", "--reason", "audit", "--for", "1h")
	require.Zero(t, code, errOut)
	require.Equal(t, "paused: \"report\\x1b\" since TIME, until TIME, by ada: audit\n", out)
	_, out, _ = outputOf(t, database, "schedules", "pause", "report\x1b", "--by", "bob", "--reason", "lunch", "--for", "1m")
	require.Contains(t, out, "by ada: audit\nthis pause holds, since it ends later; to replace it, resume the schedule first\n")
	_, out, _ = outputOf(t, database, "schedules")
	require.Contains(t, out, "\"report\\x1b\" TIME -\npaused: \"report\\x1b\" since TIME, until TIME, by ada: audit\n")

	code, out, errOut = outputOf(t, database, "schedules", "resume", "report\x1b")
	require.Zero(t, code, errOut)
	require.Equal(t, "resumed: \"report\\x1b\"; the ticks of the pause are not made up for\n", out)
	_, out, _ = outputOf(t, database, "schedules", "resume", "report\x1b")
	require.Equal(t, "\"report\\x1b\" was not paused\n", out)
}

func TestSchedules_ThatNoProgramTicksAreOverdue(t *testing.T) {
	t.Parallel()
	database, client := setUp(t)
	runSchedule(t, client, "report")
	pgtest.Exec(t, pgtest.Pool(t, database), `update pgmq.q_ezq_schedules set message = message || '{"next": "2026-01-31T09:00:00Z"}'`)
	code, out, errOut := outputOf(t, database, "schedules")
	require.Zero(t, code, errOut)
	require.Equal(t, "SCHEDULE LAST NEXT\nreport TIME TIME\noverdue: report since TIME: no program has ticked\n", out)
	_, out, _ = outputOf(t, database, "schedules", "--json")
	require.Contains(t, out, `"next":"2026-01-31T09:00:00Z","overdue":true}`)
	code, _, errOut = outputOf(t, database, "schedules", "pause", "report", "--reason", "audit", "--by", "ada")
	require.Zero(t, code, errOut)
	_, out, _ = outputOf(t, database, "schedules")
	require.Equal(t, "SCHEDULE LAST NEXT\nreport TIME -\npaused: report since TIME, until it is resumed, by ada: audit\n", out)
}

func TestSchedules_UnknownOneIsNamed(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for _, args := range [][]string{{"schedules", "pause", "repotr", "--reason", "audit"}, {"schedules", "resume", "repotr"}} {
		code, _, errOut := outputOf(t, database, args...)
		require.Equal(t, exitFailed, code, args)
		require.Contains(t, errOut, `"repotr"`)
		require.Contains(t, errOut, "it is not known")
	}
}
