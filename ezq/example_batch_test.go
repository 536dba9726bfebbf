package ezq_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// Three orders are stored together. One of them fails, and just that one comes
// back.
func ExampleHandleBatch() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})

	ezq.HandleBatch(router, func(ctx context.Context, orders []orderPlaced) error {
		if ezq.MetasFromContext(ctx)[0].Failures > 0 {
			fmt.Println("again:", orders)
			stop()
			return nil
		}
		fmt.Println("orders:", len(orders))
		failed := ezq.BatchError{}
		for i, order := range orders {
			if order.ID == 2 {
				failed[i] = ezq.RetryAfter(0, errors.New("out of stock"))
			}
		}
		return failed
	}, ezq.Size(3), ezq.Linger(500*time.Millisecond))

	_ = ezq.PublishBatch(ctx, broker, []orderPlaced{{1}, {2}, {3}})
	fmt.Println(router.Run(ctx))
	// Output:
	// orders: 3
	// again: [{2}]
	// <nil>
}
