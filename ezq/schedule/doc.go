// Package schedule publishes events periodically: one event for each tick of a schedule,
// in however many processes the schedule runs.
//
//	timetable, err := schedule.New(client, nil)
//	…
//	nightly, err := schedule.Cron("30 2 * * *", berlin)
//	…
//	timetable.Add("cleanup", schedule.Every(10*time.Minute), CleanUp{})
//	timetable.Add("report", nightly, SendReport{}, ezq.Topic("reports"))
//	err = timetable.Run(ctx)
//
// Every process of a service may run the same timetable. There is no leader election:
// the backend stores the latest tick of each schedule, in one step with the event of
// that tick. Handlers receive these events like all others, with retries and dead
// letters. [TickFromContext] returns the tick of the event that a handler is called for.
//
// # What is promised
//
//   - No tick is published twice: not if processes race, not after a crash, and not if
//     the answer of the server was lost.
//   - The clock of the backend decides whether a tick has come. If the clock of a process
//     is fast, the process asks too early, and waits. If it is slow, another process has
//     published the tick.
//   - Ticks are published as long as one process runs. If none ran, or none reached the
//     backend, [Config].CatchUp says how many of the missed ticks are published later: by
//     default the latest one.
//   - A schedule that is paused, with the Schedules of a [backend.Scheduler], publishes nothing in any process. The
//     ticks that pass meanwhile are not made up for, also if no process runs. [Timetable.Trigger] works all the same.
//   - A schedule begins when the backend sees its name for the first time. Ticks before
//     that do not count as missed.
//
// It needs a backend that promises Schedules: PGMQ and memory do. On any other [New]
// returns an error.
//
// On PGMQ each schedule is a message in a queue of its own, ezq_schedules, which is
// created when it is needed. No consumer receives those messages. A schedule whose
// message is deleted, for example with SQL, starts again:
//
//	delete from pgmq.q_ezq_schedules where message->>'schedule' = 'cleanup'
package schedule
