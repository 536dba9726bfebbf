package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.Everywhere(t, `paused by ada: the bank is moving
order-7 is stored
order-7-corrected replaces order-7
order-8 is stored
order-8 was stored before
order-9 is stored
order-10 is stored
order-8 was waiting and is cancelled: 1
resumed: true
paused by circuit breaker of charge: 2 events failed in a row; their errors are in the log
resumed: true
order 7 was charged to the silver card
dead letter order-9: there is no card
dead letter order-10: ezq: the event expired
OrderPlaced order-9 on orders: dead (there is no card)
  Reserved reserved-9 on stock: delayed
edited and redriven: 1
order 9 was charged to the gold card
purged: 1
Reserved reserved-7 on stock: delayed; its cause order-7-corrected is gone
`)
}
