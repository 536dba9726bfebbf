package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

func TestScheduleTick_IsPublishedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broker := memory.New(nil)
		defer func() { _ = broker.Close() }()
		beside := broker.Connect(nil)
		defer func() { _ = beside.Close() }()
		received, err := broker.Subscribe(t.Context(), "reports")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for i, step := range []struct {
			by   *memory.Broker
			at   time.Duration // after the start
			want backend.TickOutcome
		}{
			{broker, -time.Hour, backend.TickTaken}, // the schedule begins now
			{broker, time.Hour, backend.TickEarly},
			{broker, time.Minute, backend.TickPublished},
			{beside, time.Minute, backend.TickTaken},
			{beside, 3 * time.Minute, backend.TickPublished},
			{broker, 2 * time.Minute, backend.TickTaken},
		} {
			if step.want != backend.TickEarly {
				time.Sleep(max(time.Until(start.Add(step.at)), 0))
			}
			tick := &backend.ScheduleTick{Schedule: "hourly", At: start.Add(step.at)}
			msg := message.NewMessageWithContext(backend.WithScheduleTick(t.Context(), tick), step.at.String(), nil)
			if err := step.by.Publish("reports", msg); err != nil {
				t.Fatal(err)
			}
			if got, ok := tick.Result(); !ok || got.Outcome != step.want || !got.Now.Equal(time.Now()) || got.Last.After(got.Now) {
				t.Errorf("attempt %d: %v %v, not %v", i, got, ok, step.want)
			}
		}
		for _, want := range []string{"1m0s", "3m0s"} {
			if msg := <-received; msg.UUID != want {
				t.Errorf("%s was published, not %s", msg.UUID, want)
			} else {
				msg.Ack()
			}
		}
		synctest.Wait()
		select {
		case msg := <-received:
			t.Errorf("%s was published too", msg.UUID)
		default:
		}
	})
}
