package schedule_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq/schedule"
)

func TestPauseSchedule_LetsTicksPassInAllProcesses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		stopAll := e.start(3, e.otherProcess, schedule.Config{CatchUp: 10}, schedule.Every(time.Hour))
		time.Sleep(90 * time.Minute)
		schedules := e.broker.Schedules()
		paused, err := schedules.Pause(t.Context(), "report", backend.Pause{By: "ada", Reason: "audit", For: 2 * time.Hour})
		if err != nil || !paused.Until.Equal(start.Add(210*time.Minute)) {
			t.Errorf("%+v, %v", paused, err)
		}
		time.Sleep(time.Hour)
		all, err := schedules.List(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		if got := all[0]; got.Name != "report" || !got.Last.Equal(start.Add(2*time.Hour)) || !got.Next.Equal(start.Add(3*time.Hour)) || got.Paused == nil || got.Paused.By != "ada" {
			t.Errorf("%+v is listed", got)
		}
		time.Sleep(2 * time.Hour)
		stopAll()
		e.expect(start.Add(time.Hour), start.Add(4*time.Hour)) // what has passed in the pause is not made up for
	})
}

// No process runs while the schedule is paused, and the ticks are caught up with afterwards.
func TestPauseSchedule_LetsTicksPassWithoutAProcess(t *testing.T) {
	t.Parallel()
	for name, resume := range map[string]bool{"until it ends": false, "until it is resumed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				e, start := newEnv(t), time.Now()
				config := schedule.Config{CatchUp: 10}
				stopAll := e.start(1, e.otherProcess, config, schedule.Every(time.Hour))
				time.Sleep(90 * time.Minute)
				stopAll()
				time.Sleep(time.Hour) // the tick at two hours is missed before the pause
				pause := backend.Pause{By: "ada", Reason: "audit", For: 2 * time.Hour}
				if resume {
					pause.For = 0
				}
				if _, err := e.broker.Schedules().Pause(t.Context(), "report", pause); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Hour) // those at three and four hours pass
				if resume {
					if resumed, err := e.broker.Schedules().Resume(t.Context(), "report"); !resumed || err != nil {
						t.Errorf("%t, %v", resumed, err)
					}
				}
				time.Sleep(time.Hour) // the one at five hours is missed after it
				stopAll = e.start(1, e.otherProcess, config, schedule.Every(time.Hour))
				time.Sleep(time.Minute)
				stopAll()
				e.expect(start.Add(time.Hour), start.Add(2*time.Hour), start.Add(5*time.Hour))
			})
		})
	}
}

func TestPauseSchedule_IsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t)
		var log bytes.Buffer
		timetable, err := schedule.New(e.broker, &schedule.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err == nil {
			err = timetable.Add("report", schedule.Every(time.Minute), Report{})
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = timetable.Run(ctx) })
		time.Sleep(90 * time.Second)
		if _, err := e.broker.Schedules().Pause(t.Context(), "report", backend.Pause{By: "ada", Reason: "audit", For: time.Hour}); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Hour)
		stop()
		running.Wait()
		for _, text := range []string{"a tick passes in a pause", "do not pass in a pause any more"} {
			if n := strings.Count(log.String(), text); n != 1 {
				t.Errorf("%d records say that %s", n, text)
			}
		}
	})
}

func TestTrigger_PublishesOnceBesideTheTicks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e, start := newEnv(t), time.Now()
		timetable, err := schedule.New(e.broker, nil)
		if err == nil {
			err = timetable.Add("report", schedule.Every(time.Hour), Report{})
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := timetable.Trigger(t.Context(), "report", "ada"); err != nil { // also before it runs
			t.Error(err)
		}
		time.Sleep(time.Second)
		stopAll := e.start(2, e.otherProcess, schedule.Config{}, schedule.Every(time.Hour))
		time.Sleep(10 * time.Minute)
		if _, err := e.broker.Schedules().Pause(t.Context(), "report", backend.Pause{By: "ada", Reason: "audit", For: time.Minute}); err != nil {
			t.Error(err)
		}
		if err := timetable.Trigger(t.Context(), "report", "cron of ada"); err != nil { // also while it is paused
			t.Error(err)
		}
		time.Sleep(time.Hour)
		stopAll()
		e.expect(start, start.Add(time.Second+10*time.Minute), start.Add(time.Hour))
		for i, want := range []string{"ada", "cron of ada", ""} {
			if by := e.ticks[i].TriggeredBy; by != want {
				t.Errorf("event %d was triggered by %q, not %q", i, by, want)
			}
		}
		for name, by := range map[string]string{"other": "ada", "report": " "} {
			if err := timetable.Trigger(t.Context(), name, by); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("the schedule %q was triggered by %q: %v", name, by, err)
			}
		}
	})
}
