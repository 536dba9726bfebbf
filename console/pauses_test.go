package console_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/internal/pgtest"
)

func TestPause_ThatALongerOneOutlastsChangesNothing(t *testing.T) {
	t.Parallel()
	broker := newGroups(t)
	s := newSite(t, broker, console.Everything())
	require.NotContains(t, s.get("/confirm?action=pause&topic=payments.eu").body, "already")
	_, err := broker.Pause(t.Context(), "payments.eu", backend.Pause{By: "ben", Reason: "the bank moves"})
	require.NoError(t, err)
	_, err = broker.PauserOf("billing").Pause(t.Context(), "payments.eu", backend.Pause{By: "ada", Reason: "x", For: 3 * time.Hour})
	require.NoError(t, err)

	asked := s.get("/confirm?action=pause&topic=payments.eu").body
	require.Contains(t, asked, "It is paused already, until it is resumed: the bank moves, by ben. Of two pauses the one that ends later holds")
	asked = s.get("/confirm?action=pause&topic=payments.eu&group=billing").body
	require.Contains(t, asked, "The topic is paused as a whole, until it is resumed: the bank moves, by ben.")
	require.Contains(t, asked, "It is paused already, until 20")

	done := s.do(form("action", "pause", "topic", "payments.eu", "why", "x", "for", "1h")).body
	require.Contains(t, done, "Not changed: a longer pause holds, until it is resumed: the bank moves, by ben.")
	done = s.do(form("action", "pause", "topic", "payments.eu", "why", "x")).body
	require.Contains(t, done, "Not changed: it is paused already, until it is resumed: the bank moves, by ben.")
	done = s.do(form("action", "pause", "topic", "payments.eu", "group", "billing", "why", "x", "for", "1h")).body
	require.Contains(t, done, "Not changed: a longer pause holds, until 20", "of the same words")
	require.NotContains(t, s.log.String(), "something was changed")
	require.Equal(t, 3, strings.Count(s.log.String(), "has changed nothing"))

	done = s.do(form("action", "pause", "topic", "payments.eu", "group", "billing", "why", "x", "for", "4h")).body
	require.Contains(t, done, "It is paused until 20")
	require.Contains(t, s.log.String(), "something was changed")
}

// nightlyReport is the event of a schedule.
type nightlyReport struct{}

func TestPause_OfAScheduleThatALongerOneOutlastsChangesNothing(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	timetable, err := schedule.New(broker, nil)
	require.NoError(t, err)
	require.NoError(t, timetable.Add("nightly", schedule.Every(time.Hour), nightlyReport{}, ezq.Topic("orders")))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- timetable.Run(ctx) }()
	pgtest.Eventually(t, 10*time.Second, "the schedule is known", func() bool {
		known, err := broker.Schedules().List(t.Context())
		return err == nil && len(known) == 1
	})
	stop()
	require.NoError(t, <-ended)
	_, err = broker.Schedules().Pause(t.Context(), "nightly", backend.Pause{By: "ben", Reason: "the month is closed"})
	require.NoError(t, err)
	s := newSite(t, broker, console.Everything())
	const held = "until it is resumed: the month is closed, by ben."
	require.Contains(t, s.get("/confirm?action=pause-schedule&schedule=nightly").body, "It is paused already, "+held)
	require.Contains(t, s.do(form("action", "pause-schedule", "schedule", "nightly", "why", "x", "for", "1h")).body, "Not changed: a longer pause holds, "+held)
}

// lateShop has a schedule whose next tick nothing has taken, one that ticks, and one that is paused.
type lateShop struct{ *memory.Broker }

func (lateShop) Schedules() backend.Schedules { return lateSchedules{} }

type lateSchedules struct{ backend.Schedules }

func (lateSchedules) List(context.Context) ([]backend.ScheduleState, error) {
	at := time.Now().Add(-time.Hour)
	return []backend.ScheduleState{
		{Name: "late", Last: at, Next: at.Add(time.Minute)},
		{Name: "nightly", Last: at, Next: at.Add(2 * time.Hour)},
		{Name: "paused", Last: at, Next: at.Add(time.Minute), Paused: &backend.Paused{By: "ben", Reason: "audit"}},
	}, nil
}

func TestSchedules_ThatNoProgramTicksAreOverdue(t *testing.T) {
	t.Parallel()
	page := newSite(t, lateShop{newBroker(t)}, console.ReadOnly()).get("/schedules").body
	_, page, ok := strings.Cut(page, `<th scope="row">late</th>`)
	require.True(t, ok)
	late, page, _ := strings.Cut(page, `<th scope="row">nightly</th>`)
	nightly, paused, _ := strings.Cut(page, `<th scope="row">paused</th>`)
	require.Regexp(t, `<span class="tag bad">overdue</span> since 20\S+ \S+ UTC: no program has ticked`, late)
	require.Contains(t, nightly, `<span class="tag good">runs</span>`)
	require.Contains(t, nightly, ">in ")
	require.Contains(t, paused, `<td class="nowrap">none</td>`, "its ticks pass")
	require.NotContains(t, nightly+paused, "overdue")
}

func TestPauses_OfWhatHasNoQueueAreListedAndResumed(t *testing.T) {
	t.Parallel()
	broker := newGroups(t)
	for topic, group := range map[string]string{"dropped": "", "gone": "billing", "payments.eu": "billing", "payments.*": "archive"} {
		_, err := broker.PauserOf(group).Pause(t.Context(), topic, backend.Pause{By: "ben", Reason: "no queue"})
		require.NoError(t, err)
	}
	s := newSite(t, broker, console.Everything())
	page := s.get("/").body
	_, apart, ok := strings.Cut(page, "Paused without a queue")
	require.True(t, ok)
	require.Equal(t, 2, strings.Count(apart, "Resume…"), "others are in the rows of their queues")
	require.Contains(t, apart, `href="confirm?action=resume&amp;topic=dropped"`)
	require.Contains(t, apart, `href="confirm?action=resume&amp;group=billing&amp;topic=gone"`)
	require.NotContains(t, s.get("/?q=gone").body, "dropped")
	require.NotContains(t, newSite(t, broker, console.ReadOnly()).get("/").body, "Resume…")

	require.Contains(t, s.get("/confirm?action=resume&group=billing&topic=gone").body, "<p>It is paused until it is resumed: no queue, by ben.</p>")
	require.Contains(t, s.do(form("action", "resume", "topic", "gone", "group", "billing")).body, "It is resumed.")
	require.Contains(t, s.do(form("action", "resume", "topic", "dropped")).body, "It is resumed.")
	require.NotContains(t, s.get("/").body, "Paused without a queue")
	require.Equal(t, []string{"payments.* archive", "payments.eu billing"}, pausesOf(t, broker))
	require.Equal(t, http.StatusNotFound, s.get("/confirm?action=resume&topic=dropped").StatusCode)
}

func TestPauses_OfWhatHasNoQueueAreBounded(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	for i := range 120 {
		_, err := broker.Pause(t.Context(), fmt.Sprint("topic-", i), backend.Pause{By: "ben", Reason: "no queue"})
		require.NoError(t, err)
	}
	got := newSite(t, broker, console.Everything()).get("/").body
	require.Equal(t, 50, strings.Count(got, "Resume…"))
	require.Contains(t, got, "70 more are not shown")
}

func TestPause_WithoutReasonIsRefusedAlsoForAGroup(t *testing.T) {
	t.Parallel()
	s := newSite(t, newGroups(t), console.Everything())
	got := s.post("/do", form("action", "pause", "topic", "payments.eu", "group", "billing", "why", " "))
	require.Equal(t, http.StatusBadRequest, got.StatusCode, got.body)
	require.Contains(t, got.body, "The reason is refused: it is empty.")
	require.Contains(t, got.body, "To go on, say why: it is shown where the pause holds.")
}

// foreign is a backend with a queue of another program.
type foreign struct{ *memory.Broker }

func (f foreign) QueueStates(ctx context.Context) ([]backend.QueueState, error) {
	states, err := f.Broker.QueueStates(ctx)
	return append(states, backend.QueueState{Queue: "of_others"}), err
}

func TestPause_NeedsATopic(t *testing.T) {
	t.Parallel()
	broker := newBroker(t)
	s := newSite(t, foreign{broker}, console.Everything())
	for _, action := range []string{"pause", "resume", "cancel"} {
		require.Equal(t, http.StatusNotFound, s.post("/do", form("action", action, "why", "x")).StatusCode, action)
	}
	require.Empty(t, pausesOf(t, broker))
}
