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
	client, err := open.Backend(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer client.Close()

	var mu sync.Mutex
	books := map[string][]int{}
	router := ezq.NewRouter(client, &ezq.Config{Concurrency: 10})
	ezq.Handle(router, func(_ context.Context, e Booked) error {
		mu.Lock()
		defer mu.Unlock()
		books[e.Account] = append(books[e.Account], e.Number)
		return nil
	})

	for number := range 5 {
		for _, account := range []string{"ada", "grace"} {
			event := Booked{Account: account, Number: number}
			if err := ezq.Publish(ctx, client, event, ezq.Key(account)); err != nil {
				return err
			}
		}
	}
	if err := ezq.Publish(ctx, client, ezq.EndEvent{}); err != nil {
		return err
	}
	if err := router.Run(ctx); err != nil {
		return err
	}
	fmt.Println(books)
	return nil
}
