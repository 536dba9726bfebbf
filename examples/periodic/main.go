// Periodic publishes an event at every tick of a schedule. Two timetables keep it, as two
// processes of a service would; each tick still comes once.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
)

// CleanUp is due now and then.
type CleanUp struct{ Table string }

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	client, err := open.Backend(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 1})
	seen := map[time.Time]bool{}
	ezq.Handle(router, func(ctx context.Context, e CleanUp) error {
		tick, _ := schedule.TickFromContext(ctx)
		switch {
		case len(seen) == 3: // the end is near
			return nil
		case seen[tick.At]:
			return errors.New("this tick has been here before")
		}
		seen[tick.At] = true
		fmt.Printf("%d: clean up %s\n", len(seen), e.Table)
		if len(seen) < 3 {
			return nil
		}
		return ezq.Publish(ctx, client, ezq.EndEvent{})
	})

	here, err := plan(client)
	if err != nil {
		return err
	}
	there, err := plan(client)
	if err != nil {
		return err
	}
	keeping, stop := context.WithCancel(ctx)
	var timetables sync.WaitGroup
	for _, timetable := range []*schedule.Timetable{here, there} {
		timetables.Go(func() {
			if err := timetable.Run(keeping); err != nil {
				log.Print(err)
			}
		})
	}
	defer timetables.Wait()
	defer stop()
	return router.Run(ctx)
}

// plan is the same in every process.
func plan(queue message.Publisher) (*schedule.Timetable, error) {
	timetable, err := schedule.New(queue, nil)
	if err != nil {
		return nil, err
	}
	nightly, err := schedule.Cron("30 2 * * *", time.UTC)
	if err != nil {
		return nil, err
	}
	return timetable, errors.Join(
		timetable.Add("clean up sessions", schedule.Every(200*time.Millisecond), CleanUp{Table: "sessions"}),
		timetable.Add("clean up orders", nightly, CleanUp{Table: "orders"}, ezq.Topic("nightly")))
}
