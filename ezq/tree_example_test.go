package ezq_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type orderCharged struct{ ID int }

type orderMailed struct{ ID int }

// What became of order 42? It is found by a field, and with it all that has followed from it.
func ExampleFindTree() {
	ctx, stop := context.WithCancel(context.Background())
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		_ = ezq.Publish(ctx, broker, orderMailed(e), ezq.ID("mail"), ezq.Topic("mails"))
		return ezq.Publish(ctx, broker, orderCharged(e), ezq.ID("charge"))
	})
	ezq.Handle(router, func(context.Context, orderCharged) error {
		defer stop()
		return ezq.Permanent(errors.New("the card is declined"))
	})
	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 42}, ezq.ID("order"))
	_ = router.Run(ctx)

	ctx = context.Background()
	found, _ := broker.Find(ctx, "mails", backend.Selection{Field: "ID", Equals: 42})
	tree, err := ezq.FindTree(ctx, broker, found[0].ID, ezq.DefaultTopic, "mails")
	fmt.Print(tree)
	fmt.Println(err)
	// Output:
	// orderMailed mail on mails: waiting; its cause order is gone
	// orderCharged charge on ezq: dead (the card is declined); its cause order is gone
	// <nil>
}
