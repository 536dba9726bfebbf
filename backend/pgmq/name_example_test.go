package pgmq_test

import (
	"fmt"

	"github.com/ezq-go/ezq/backend/pgmq"
)

func ExampleQueueName() {
	for _, topic := range []string{"orders", "Orders", "orders.created"} {
		queue, err := pgmq.QueueName(topic)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("select * from pgmq.q_%s; -- %s\n", queue, topic)
	}
	// Output:
	// select * from pgmq.q_orders; -- orders
	// select * from pgmq.q_orders_hb7e8acdd522e6190ac95; -- Orders
	// select * from pgmq.q_orders_created_h18d455b750919e203028; -- orders.created
}
