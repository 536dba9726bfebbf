// Critical stops the router from within: a handler that finds out that nothing can go
// on publishes an InterruptEvent. What was being handled goes back to the queue, and
// the next start continues with it.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// Backup takes long.
type Backup struct{}

// DiskFull is the critical event.
type DiskFull struct{}

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
	if err := ezq.Publish(ctx, client, Backup{}); err != nil {
		return err
	}
	if err := untilTheDiskIsFull(ctx, client); !errors.Is(err, ezq.ErrInterrupted) {
		return fmt.Errorf("the router was not interrupted: %w", err)
	}
	fmt.Println("interrupted; now there is a new disk")
	return finish(ctx, client)
}

func untilTheDiskIsFull(ctx context.Context, client backend.Backend) error {
	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(ctx context.Context, _ Backup) error {
		fmt.Println("the backup begins")
		if err := ezq.Publish(ctx, client, DiskFull{}); err != nil {
			return err
		}
		<-ctx.Done()
		fmt.Println("the backup ends:", context.Cause(ctx))
		return ctx.Err() // being interrupted is no failure
	})
	ezq.Handle(router, func(ctx context.Context, _ DiskFull) error {
		fmt.Println("the disk is full")
		// EndEvent would wait for the backup. The context is one that this event does not end.
		return ezq.Publish(context.WithoutCancel(ctx), client, ezq.InterruptEvent{})
	})
	return router.Run(ctx)
}

func finish(ctx context.Context, client backend.Backend) error {
	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(ctx context.Context, _ Backup) error {
		fmt.Println("the backup is done, after", ezq.MetaFromContext(ctx).Failures, "failures")
		return ezq.Publish(ctx, client, ezq.EndEvent{})
	})
	return router.Run(ctx)
}
