package ezq_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestCause_IsSetOnEventsPublishedByHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var metas []ezq.Meta
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			metas = append(metas, ezq.MetaFromContext(ctx))
			switch e.ID {
			case 1, 2:
				return ezq.Publish(ctx, broker, orderPlaced{e.ID + 1})
			case 3:
				return ezq.Publish(ctx, broker, orderPlaced{4}, ezq.Header("correlation_id", "mine"))
			}
			return ezq.Publish(context.Background(), broker, ezq.EndEvent{})
		})
		publish(t, broker, orderPlaced{1})
		require.NoError(t, router.Run(t.Context()))
		require.Len(t, metas, 4)
		require.Empty(t, metas[0].CorrelationID, "a plain context adds nothing")
		require.Empty(t, metas[0].CausationID)
		for i, meta := range metas[1:] {
			require.Equal(t, metas[i].ID, meta.CausationID)
		}
		require.Equal(t, metas[0].ID, metas[1].CorrelationID)
		require.Equal(t, metas[0].ID, metas[2].CorrelationID)
		require.Equal(t, "mine", metas[3].CorrelationID, "a header wins")
	})
}

func TestCorrelationID_TravelsWithContext(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var got []string
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			got = append(got, ezq.CorrelationIDFromContext(ctx))
			check(t, ezq.CorrelationIDFromContext(ctx), ezq.MetaFromContext(ctx).CorrelationID)
			if e.ID < 3 {
				return ezq.Publish(ezq.WithCorrelationID(ctx, fmt.Sprint("order ", e.ID)), broker, orderPlaced{e.ID + 1})
			}
			return ezq.Publish(ctx, broker, ezq.EndEvent{})
		})
		request := ezq.WithCorrelationID(t.Context(), "request 42")
		require.Equal(t, "request 42", ezq.CorrelationIDFromContext(request))
		require.NoError(t, ezq.Publish(request, broker, orderPlaced{1}))
		require.NoError(t, router.Run(ezq.WithCorrelationID(t.Context(), "the program")))
		require.Equal(t, []string{"request 42", "order 1", "order 2"}, got, "the context of Run is not that of an event")
		require.Empty(t, ezq.CorrelationIDFromContext(t.Context()))
	})
}

// The id of a request goes along with all that it leads to.
func ExampleWithCorrelationID() {
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		fmt.Println(ezq.CorrelationIDFromContext(ctx))
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	ctx := ezq.WithCorrelationID(context.Background(), "request 42")
	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 7})
	_ = router.Run(context.Background())
	// Output: request 42
}

// An event that a handler publishes with its context knows what it follows from.
func ExampleMeta() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 1, Logger: quiet()})
	ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
		return ezq.Publish(ctx, broker, mailDue(e))
	})
	ezq.Handle(router, func(ctx context.Context, _ mailDue) error {
		meta := ezq.MetaFromContext(ctx)
		fmt.Println(meta.Event, "on", meta.Topic, "belongs to", meta.CorrelationID)
		return ezq.Publish(ctx, broker, ezq.EndEvent{})
	})
	_ = ezq.Publish(ctx, broker, orderPlaced{ID: 7}, ezq.Header("correlation_id", "order 7"))
	fmt.Println(router.Run(ctx))
	// Output:
	// mailDue on ezq belongs to order 7
	// <nil>
}

// Stats and Ready are what a monitoring endpoint needs.
func ExampleRouter_Stats() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
	_ = ezq.PublishBatch(ctx, broker, []any{orderPlaced{1}, orderPlaced{2}, ezq.EndEvent{}})
	_ = router.Run(ctx)

	fmt.Println("succeeded:", router.Stats()["ezq"].Succeeded)
	fmt.Println(router.Ready())
	// Output:
	// succeeded: 2
	// ezq: the router has stopped
}

func TestCorrelationID_DropsLongForeignID(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		long := strings.Repeat("c", backend.MaxID+1)
		var metas []ezq.Meta
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			metas = append(metas, ezq.MetaFromContext(ctx))
			if e.ID == 1 {
				return ezq.Publish(ctx, broker, orderPlaced{2})
			}
			return ezq.Publish(context.Background(), broker, ezq.EndEvent{})
		})
		strange := message.NewMessage("1", []byte(`{"_type":"OrderPlaced","ID":1}`))
		strange.Metadata = message.Metadata{"correlation_id": long, "causation_id": long}
		require.NoError(t, broker.Publish(ezq.DefaultTopic, strange))
		require.NoError(t, router.Run(t.Context()))
		require.Len(t, metas, 2)
		require.Empty(t, metas[0].CorrelationID+metas[0].CausationID)
		require.Equal(t, long, metas[0].Headers["correlation_id"], "it is in the headers")
		require.Equal(t, "1", metas[1].CorrelationID)
	})
}
