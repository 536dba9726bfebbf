package schedule_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
)

type CleanUp struct{ Table string }

func Example() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, nil)
	ezq.Handle(router, func(ctx context.Context, e CleanUp) error {
		tick, _ := schedule.TickFromContext(ctx)
		fmt.Println("clean up", e.Table, "for", tick.Schedule)
		stop()
		return nil
	})

	timetable, err := schedule.New(broker, nil)
	if err == nil {
		err = timetable.Add("every second", schedule.Every(time.Second), CleanUp{Table: "sessions"})
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() { _ = timetable.Run(ctx) }() // in every process; each tick still comes once
	fmt.Println("stopped:", router.Run(ctx))
	// Output:
	// clean up sessions for every second
	// stopped: <nil>
}

func ExampleCron() {
	s, err := schedule.Cron("30 8 * * MON-FRI", time.UTC)
	if err != nil {
		fmt.Println(err)
		return
	}
	friday := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	fmt.Println(s.Next(friday).Format(time.RFC1123))

	_, err = schedule.Cron("30 8 * * FRYDAY", time.UTC)
	fmt.Println("refused:", err != nil)
	// Output:
	// Mon, 30 Nov 2026 08:30:00 UTC
	// refused: true
}
