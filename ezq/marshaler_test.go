package ezq_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

func TestEventName_FallsBackToMetadata(t *testing.T) {
	for _, test := range []struct{ name, payload, metadata, handled string }{
		{"the metadata names an event that is handled", `{"ID":1}`, "OrderPlaced", "OrderPlaced"},
		{"the name in the payload takes precedence", `{"_type":"mailDue","ID":1}`, "OrderPlaced", "mailDue"},
		{"the metadata may name an alias", `{"ID":1}`, "main.OrderPlaced", "OrderPlaced"},
		{"an unknown name in the metadata is ignored", `{"ID":1}`, "Unknown", ""},
		{"control events are not named in the metadata", `{"ID":1}`, "EZQEndEvent", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{Concurrency: 1, UnknownFor: 1})
				var handled string
				note := func(ctx context.Context) { handled = ezq.MetaFromContext(ctx).Event }
				ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error { note(ctx); return nil }, ezq.Alias("main.OrderPlaced"))
				ezq.Handle(router, func(ctx context.Context, _ mailDue) error { note(ctx); return nil })
				ezq.Handle(router, func(context.Context, ezq.EndEvent) error { return nil })
				msg := message.NewMessage("1", []byte(test.payload))
				msg.Metadata.Set("name", test.metadata)
				require.NoError(t, broker.Publish("ezq", msg))
				publish(t, broker, ezq.EndEvent{})
				require.NoError(t, router.Run(t.Context()))
				require.Equal(t, test.handled, handled)
			})
		})
	}
}

func TestMarshaler_SpeaksWireForm(t *testing.T) {
	t.Parallel()
	var m ezq.Marshaler
	msg, err := m.Marshal(&orderPlaced{7})
	require.NoError(t, err)
	require.JSONEq(t, `{"_type":"OrderPlaced","ID":7}`, string(msg.Payload))
	require.Equal(t, "OrderPlaced", m.Name(&orderPlaced{}))
	require.Equal(t, "OrderPlaced", m.NameFromMessage(msg))
	var back orderPlaced
	require.NoError(t, m.Unmarshal(msg, &back))
	require.Equal(t, 7, back.ID)

	var wrong *ezq.DecodeError
	require.ErrorAs(t, m.Unmarshal(message.NewMessage("1", []byte(`{"_type":"OrderPlaced","ID":"x"}`)), &back), &wrong)
	require.Equal(t, "OrderPlaced", wrong.Event)
	require.Panics(t, func() { m.Name(struct{}{}) })
	_, err = m.Marshal(7)
	require.Error(t, err)
}

// Watermill's cqrs package takes it as its marshaler.
func ExampleMarshaler() {
	msg, _ := ezq.Marshaler{}.Marshal(orderPlaced{ID: 7})
	fmt.Println(ezq.Marshaler{}.NameFromMessage(msg), string(msg.Payload))
	// Output: OrderPlaced {"_type":"OrderPlaced","ID":7}
}
