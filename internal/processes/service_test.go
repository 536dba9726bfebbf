package processes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// serviceVariable makes the test binary a service. Its value is a service in JSON.
const serviceVariable = "EZQ_PROCESSES_SERVICE"

func TestMain(m *testing.M) {
	settings := os.Getenv(serviceVariable)
	if settings == "" {
		os.Exit(m.Run())
	}
	var s service
	err := json.Unmarshal([]byte(settings), &s)
	if err = errors.Join(err, s.main()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// service is a program as the documentation has it.
type service struct {
	Database      string
	Concurrency   int
	DrainTimeout  time.Duration
	Lease         time.Duration
	MaxDeliveries int
	Version       string // of a program that changes its events; see deploy
}

// listening is what a service writes once it can be told to stop.
const listening = "listening"

// main runs until it is told to stop: by SIGTERM or SIGINT in order, and by a second one at once.
func (s service) main() error {
	ctx, restore := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, restore)
	printLine(listening)

	logger := slog.New(slog.DiscardHandler)
	client, err := pgmq.Open(ctx, s.Database, &pgmq.Config{Subscriber: pgmq.SubscriberConfig{Lease: s.Lease}, Logger: logger})
	if err != nil && ctx.Err() != nil {
		return nil // it was told to stop before it had begun
	}
	if err != nil {
		return err
	}
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: s.Concurrency, DrainTimeout: s.DrainTimeout, Logger: logger})
	router.Use(
		middleware.Retry{Attempts: attempts, Delay: 20 * time.Millisecond, MaxDelay: 50 * time.Millisecond}.Middleware,
		middleware.Poison{MaxDeliveries: s.MaxDeliveries, Logger: logger}.Middleware,
	)
	ezq.Handle(router, work)
	ezq.Handle(router, handle, ezq.Topic(soakTopic))
	s.deploy(router)
	return errors.Join(router.Run(ctx), client.Close())
}

// printLine tells the parent. Nothing is buffered, so that SIGKILL hides nothing.
func printLine(words ...any) { _, _ = fmt.Fprintln(os.Stdout, words...) }

// job is an event that says how its handler behaves.
type job struct{ Does string }

// What handlers do.
const (
	finishes = "finishes" // when it is told that the router stops
	obeys    = "obeys"    // when its context ends
	hangs    = "hangs"
	crashes  = "crashes" // its process
	succeeds = "succeeds"
)

func work(ctx context.Context, e job) error {
	printLine("begun", e.Does)
	switch e.Does {
	case finishes:
		<-ezq.StoppingFromContext(ctx)
		printLine("finished")
	case obeys:
		<-ctx.Done()
		printLine("interrupted:", context.Cause(ctx))
		return ctx.Err()
	case hangs:
		<-ezq.StoppingFromContext(ctx)
		printLine("stopping")
		select {}
	case crashes:
		os.Exit(3)
	case succeeds:
		meta := ezq.MetaFromContext(ctx)
		printLine("delivery", meta.Delivery, "failures", meta.Failures)
	}
	return nil
}
