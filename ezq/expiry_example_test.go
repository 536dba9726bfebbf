package ezq_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type priceOffered struct{ Cents int }

// An offer that comes late is worth nothing.
func ExampleExpires() {
	ctx, client := context.Background(), memory.New(nil)
	_ = ezq.Publish(ctx, client, priceOffered{100}, ezq.Expires(time.Nanosecond))
	_ = ezq.Publish(ctx, client, priceOffered{200}, ezq.Expires(time.Hour))

	router := ezq.NewRouter(client, &ezq.Config{
		Logger: quiet(),
		Topics: map[string]ezq.TopicConfig{ezq.DefaultTopic: {DropExpired: true}},
	})
	ezq.Handle(router, func(_ context.Context, offer priceOffered) error {
		fmt.Println("offered:", offer.Cents)
		return nil
	})
	_ = ezq.Publish(ctx, client, ezq.EndEvent{})
	_ = router.Run(ctx)
	fmt.Println("dropped:", router.Stats()[ezq.DefaultTopic].Dropped)
	// Output:
	// offered: 200
	// dropped: 1
}
