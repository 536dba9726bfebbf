package ezq_test

import (
	"context"
	"testing"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func BenchmarkRouter(b *testing.B) {
	queue := memory.NewWith(memory.Config{Logger: quiet()})
	events := make([]orderPlaced, b.N)
	for i := range events {
		events[i].ID = i
	}
	if err := ezq.PublishBatch(b.Context(), queue, events); err != nil {
		b.Fatal(err)
	}
	if err := ezq.Publish(b.Context(), queue, ezq.EndEvent{}); err != nil {
		b.Fatal(err)
	}
	router := newRouter(queue, ezq.Config{})
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	b.ReportAllocs()
	b.ResetTimer()
	if err := router.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
}
