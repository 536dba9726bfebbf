// Package schedule publishes events periodically: one for each tick of a schedule,
// however many processes keep it.
//
//	timetable, err := schedule.New(client, nil)
//	…
//	nightly, err := schedule.Cron("30 2 * * *", berlin)
//	…
//	timetable.Add("cleanup", schedule.Every(10*time.Minute), CleanUp{})
//	timetable.Add("report", nightly, SendReport{}, ezq.Topic("reports"))
//	err = timetable.Run(ctx)
//
// Every process of a service may run the same timetable. There is no leader, and
// nothing to elect: the backend itself knows how far each schedule has come, and
// stores an event and that in one step. Handlers get the events as any others, retries
// and dead letters included; [TickFromContext] tells a handler which tick it is for.
//
// # What is promised
//
//   - No tick is published twice: not by processes that race, not after a crash, and
//     not if the answer of the server was lost.
//   - The clock of the backend decides that a tick has come. A process whose clock is
//     fast asks too early and is told to wait; one whose clock is slow comes late, and
//     the others have done it.
//   - A tick is published as long as one process runs. Ticks that all of them missed,
//     because none ran or none reached the backend, are made up for as
//     [Config].CatchUp says: with one event for the latest tick, unless it says more.
//   - A schedule begins when the backend sees its name for the first time. It has
//     missed nothing before.
//
// It needs a backend that promises Schedules: PGMQ and memory do. On any other [New]
// returns an error.
//
// On PGMQ each schedule is a message in a queue of its own, ezq_schedules, which is
// created when it is needed. No consumer receives those messages. A schedule whose
// message is deleted, as with SQL, begins anew:
//
//	delete from pgmq.q_ezq_schedules where message->>'schedule' = 'cleanup'
package schedule
