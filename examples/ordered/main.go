// Ordered handles the events of one account one after the other, and those of
// different accounts beside each other.
//
// It runs on the memory backend, or on PGMQ if EZQ_DATABASE_URL is set.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/ezq-go/ezq/examples/internal/open"
	"github.com/ezq-go/ezq/ezq"
)

// Booked is an entry in an account.
type Booked struct {
	Account string
	Number  int
}

func main() {
	if err := run(context.Background(), os.Getenv("EZQ_DATABASE_URL")); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, databaseURL string) error {
	queue, err := open.Queue(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer queue.Close()

	var mu sync.Mutex
	books := map[string][]int{}
	router := ezq.NewRouter(queue, &ezq.Config{Concurrency: 10})
	ezq.Handle(router, func(_ context.Context, e Booked) error {
		mu.Lock()
		defer mu.Unlock()
		books[e.Account] = append(books[e.Account], e.Number)
		return nil
	})

	for number := range 5 {
		for _, account := range []string{"ada", "grace"} {
			event := Booked{Account: account, Number: number}
			if err := ezq.Publish(ctx, queue, event, ezq.Key(account)); err != nil {
				return err
			}
		}
	}
	if err := ezq.Publish(ctx, queue, ezq.EndEvent{}); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	fmt.Println(books)
	return nil
}
