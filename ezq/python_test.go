package ezq_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// What a service in Python publishes, as json.dumps of the event's fields and its class
// name writes it: one event a line.
func TestPython_EventsAreHandled(t *testing.T) {
	type userCreated struct {
		UserID   int64   `json:"user_id"`
		Username *string `json:"username"`
	}
	type priceChanged struct {
		Price, Factor float64
		Tags          []string
		Parent        map[string]any
		Note          string
	}
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		written, err := os.ReadFile("testdata/wire/python.jsonl")
		require.NoError(t, err)
		for i, line := range bytes.Split(bytes.TrimSpace(written), []byte("\n")) {
			require.NoError(t, broker.Publish(ezq.DefaultTopic, message.NewMessage(fmt.Sprint(i), line)))
		}
		var users []userCreated
		var prices []priceChanged
		pings := 0
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(_ context.Context, e userCreated) error { users = append(users, e); return nil }, ezq.Alias("UserCreated"))
		ezq.Handle(router, func(_ context.Context, e priceChanged) error { prices = append(prices, e); return nil }, ezq.Alias("PriceChanged"))
		ezq.Handle(router, func(context.Context, ping) error { pings++; return nil })
		require.NoError(t, router.Run(t.Context()), "the last one is an EZQEndEvent")

		ada, zoe := "ada", "Zoë \U0001F600 <&> \u2028 \"quoted\" \\"
		require.Equal(t, []userCreated{{7, &ada}, {9007199254740993, &zoe}, {-1, nil}}, users)
		require.Equal(t, []priceChanged{
			{1, 1e-7, []string{"a", "b"}, map[string]any{"_type": "Other", "price": 2.5}, ""},
			{1e16, 0.1, []string{}, nil, "a\tb\n"},
		}, prices)
		require.Equal(t, 1, pings)
	})
}

type ping struct{}

func (ping) EventName() string { return "Ping" }

// The Python library runs all handlers of an event at the same time. Here each has a
// name besides, so that one that fails runs again without the others.
func Example_severalHandlersAsInPython() {
	ctx := context.Background()
	broker := memory.New(nil)
	router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
	ezq.Handle(router, func(context.Context, UserCreated) error { return nil }, ezq.Name("greet")) // @on_event
	ezq.Handle(router, func(context.Context, UserCreated) error { return nil }, ezq.Name("bill"))  // @on_event
	events := []UserCreated{{Email: "ada@example.com"}, {Email: "grace@example.com"}}
	_ = ezq.PublishBatch(ctx, broker, events)    // await publish_events(events)
	_ = ezq.Publish(ctx, broker, ezq.EndEvent{}) // await publish_event(EZQEndEvent())
	fmt.Println(router.Run(ctx))                 // await consumer()
	fmt.Println(router.Stats()["ezq"].Succeeded, "events handled")
	// Output:
	// <nil>
	// 2 events handled
}

func TestDecodeError_NamesFieldOfZonelessTime(t *testing.T) {
	t.Parallel()
	type signedUp struct {
		Name    string
		Created time.Time  `json:"created_at"`
		Seen    *time.Time `json:"seen_at,omitempty"`
	}
	for payload, field := range map[string]string{
		`{"Name":"2026-11-28T12:00:00","created_at":"2026-11-28T12:00:00.123456"}`:   "created_at",
		`{"created_at":"2026-11-28T12:00:00+00:00","seen_at":"2026-11-28T12:00:00"}`: "seen_at",
	} {
		var event signedUp
		err := ezq.Marshaler{}.Unmarshal(message.NewMessage("1", []byte(payload)), &event)
		require.ErrorContains(t, err, `the field "`+field+`" is not a time in RFC 3339 with a zone`)
		require.ErrorContains(t, err, "datetime.now(timezone.utc)")
		require.NotContains(t, err.Error(), "12:00:00.")
	}
}

func TestPython_ControlEventsAreObeyed(t *testing.T) {
	for payload, want := range map[string]error{
		`{"_type":"EZEndEvent","timeout":10.0}`: nil,
		`{"_type":"EZInterruptEvent"}`:          ezq.ErrInterrupted,
	} {
		t.Run(payload, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, ezq.Config{})
				handle(router)
				require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(payload))))
				ctx, stop := context.WithTimeout(t.Context(), time.Hour)
				defer stop()
				start := time.Now()
				require.ErrorIs(t, router.Run(ctx), want)
				require.Zero(t, time.Since(start))
			})
		})
	}
}

func TestPython_ControlEventNameMayBeAlias(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		handled := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { handled++; return nil }, ezq.Alias("EZEndEvent"))
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"EZEndEvent","ID":1}`))))
		runFor(t, router, time.Minute)
		require.Equal(t, 1, handled)
	})
}
