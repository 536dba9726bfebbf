package ezq_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// One event, two handlers: each succeeds or fails on its own.
func ExampleName() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})

	bill := func(_ context.Context, e orderPlaced) error {
		fmt.Println("bill order", e.ID)
		return nil
	}
	ship := func(ctx context.Context, e orderPlaced) error {
		if ezq.MetaFromContext(ctx).Failures == 0 {
			return ezq.RetryAfter(0, errors.New("the warehouse is closed"))
		}
		fmt.Println("ship order", e.ID, "by", ezq.MetaFromContext(ctx).Handler)
		stop()
		return nil
	}
	ezq.Handle(router, bill, ezq.Name("bill"))
	ezq.Handle(router, ship, ezq.Name("ship"))

	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 7})
	fmt.Println(router.Run(ctx))
	// Output:
	// bill order 7
	// ship order 7 by ship
	// <nil>
}
