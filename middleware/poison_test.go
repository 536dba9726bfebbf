package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/middleware"
)

func TestPoison_DeadLetterIsMessageWithExplanation(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		var last ezq.Meta
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			last = ezq.MetaFromContext(ctx)
			return errBoom
		}, ezq.Topic("orders"))
		require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{7}, ezq.Topic("orders"), ezq.Header("tenant", "acme")))
		run(t, router, 10*time.Second)

		dead := drain(t, broker, "orders_dead")
		require.Len(t, dead, 1)
		require.Equal(t, last.ID, dead[0].UUID)
		require.JSONEq(t, `{"_type":"OrderPlaced","ID":7}`, string(dead[0].Payload))
		at, err := time.Parse(time.RFC3339, dead[0].Metadata.Get(backend.DeadLetterAt))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, 2*24*time.Hour)
		delete(dead[0].Metadata, backend.DeadLetterAt)
		require.Equal(t, message.Metadata{
			"content-type":             "application/json",
			"tenant":                   "acme",
			backend.DeadLetterReason:   "boom",
			backend.DeadLetterTopic:    "orders",
			backend.DeadLetterHandler:  "OrderPlaced",
			backend.DeadLetterFailures: "3",
		}, dead[0].Metadata)
		require.Empty(t, drain(t, broker, "orders"))
	})
}

func TestPoison_WithoutRetryTakesOnlyPermanentErrors(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware)
		results := []error{errBoom, ezq.RetryAfter(time.Hour, errBoom), ezq.Permanent(errBoom), fmt.Errorf("wrapped: %w", ezq.Permanent(errBoom))}
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error { return results[e.ID] })
		publish(t, broker, orderPlaced{0}, orderPlaced{1}, orderPlaced{2}, orderPlaced{3})
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		require.NoError(t, router.Run(ctx))
		require.Len(t, drain(t, broker, "dead"), 2)
		require.Len(t, drain(t, broker, "ezq"), 2)
	})
}

func TestPoison_TakesUnknownAndUndecodableEventsAtOnce(t *testing.T) {
	for _, test := range []struct{ name, payload, reason string }{
		{"an unknown event", `{"_type":"Unheard"}`, `no handler for event "Unheard"`},
		{"a payload of another shape", `{"_type":"OrderPlaced","ID":"seven"}`, "decode OrderPlaced"},
		{"a payload that is not JSON", "\x00\xff", "decode OrderPlaced"},
		{"an empty payload", "", "decode OrderPlaced"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, middleware.Retry{}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
				ezq.Handle(router, func(context.Context, orderPlaced) error { t.Error("called"); return nil })
				require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(test.payload))))
				run(t, router, time.Millisecond)
				dead := drain(t, broker, "ezq_dead")
				require.Len(t, dead, 1)
				require.Equal(t, test.payload, string(dead[0].Payload))
				require.Contains(t, dead[0].Metadata.Get(backend.DeadLetterReason), test.reason)
			})
		})
	}
}

func TestPoison_PublishesDeadLetterOnForeignBackend(t *testing.T) {
	t.Parallel()
	var dead recorder
	msg := plainMessage(t)
	msg.Metadata.Set("tenant", "acme")
	backend.SetDelay(msg, time.Hour)
	ctx, cancel := context.WithTimeout(msg.Context(), 0) // a Timeout further out
	defer cancel()
	msg.SetContext(ctx)
	policy := middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}
	out, err := policy.Middleware(failing(ezq.Permanent(errBoom)))(msg)
	require.NoError(t, err)
	require.Empty(t, out)
	require.False(t, backend.Nacked(msg), "the router acks it")

	require.Equal(t, []string{"dead"}, dead.topics)
	deadLetter := dead.msgs[0]
	require.NotSame(t, msg, deadLetter)
	require.Equal(t, "id", deadLetter.UUID)
	require.Equal(t, "payload", string(deadLetter.Payload))
	require.Equal(t, "boom", deadLetter.Metadata.Get(backend.DeadLetterReason))
	require.Equal(t, "acme", deadLetter.Metadata.Get("tenant"))
	delay, at, err := backend.DelayOf(deadLetter)
	require.NoError(t, err)
	require.Zero(t, delay)
	require.Zero(t, at)
}

func TestPoison_KeepsMessageWhenDeadLetterCannotMove(t *testing.T) {
	t.Parallel()
	errDown := errors.New("down")
	settled := received(t, &backend.Delivery{Number: 1, DeadLetters: true})
	settled.Ack()
	for _, test := range []struct {
		name   string
		policy middleware.Poison
		msg    *message.Message
		want   string
	}{
		{"the publisher fails", middleware.Poison{Topic: "dead", To: &recorder{err: errDown}}, plainMessage(t), `dead letter to "dead": down`},
		{"there is no publisher", middleware.Poison{Topic: "dead"}, plainMessage(t), "set Poison.To"},
		{"there is no topic", middleware.Poison{To: &recorder{}}, plainMessage(t), "set Poison.Topic"},
		{"the message is settled", middleware.Poison{Topic: "dead"}, settled, "already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.policy.Middleware(failing(ezq.Permanent(errBoom)))(test.msg)
			require.ErrorIs(t, err, errBoom)
			require.ErrorContains(t, err, test.want)
			require.True(t, ezq.IsPermanent(err))
			require.False(t, backend.Nacked(test.msg))
			if strings.Contains(test.name, "fails") {
				require.ErrorIs(t, err, errDown)
			}
		})
	}
}

func TestPoison_PublishesOnBackendWithoutDeadLetters(t *testing.T) {
	t.Parallel()
	var dead recorder
	d := &backend.Delivery{Number: 1}
	_, err := middleware.Poison{Topic: "dead", To: &dead, Logger: quiet()}.Middleware(failing(ezq.Permanent(errBoom)))(received(t, d))
	require.NoError(t, err)
	require.Equal(t, []string{"dead"}, dead.topics)
	_, decided := d.Disposition()
	require.False(t, decided)
}

func TestPoison_WorksDespiteReplacedContext(t *testing.T) {
	t.Parallel()
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	_, err := middleware.Poison{Topic: "dead", Logger: quiet()}.Middleware(func(msg *message.Message) ([]*message.Message, error) {
		msg.SetContext(context.Background())
		return nil, ezq.Permanent(errBoom)
	})(received(t, d))
	require.NoError(t, err)
	v, _ := d.Disposition()
	require.NotNil(t, v.Target)
}

func TestPoison_MovesNothingToItsOwnTopic(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, middleware.Poison{Topic: "ezq"}.Middleware)
		calls := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { calls++; return ezq.Permanent(errBoom) })
		publish(t, broker, orderPlaced{1})
		run(t, router, time.Minute)
		require.Equal(t, 1, calls)
		require.Len(t, drain(t, broker, "ezq_dead"), 1, "the router gives it up instead")
	})
}

func TestPoison_LimitsDeliveriesOfCrashingMessage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name     string
		delivery *backend.Delivery
		handled  bool
	}{
		{"the first delivery is handled", &backend.Delivery{Number: 1}, true},
		{"five deliveries without a failure are handled", &backend.Delivery{Number: 5}, true},
		{"six deliveries without a failure are too many crashes", &backend.Delivery{Number: 6}, false},
		{"many failures are left to Retry", &backend.Delivery{Number: 100, Failures: 99}, true},
		{"too many crashes among failures are noticed", &backend.Delivery{Number: 100, Failures: 94}, false},
		{"more failures than deliveries are forged, and hide no crash", &backend.Delivery{Number: 6, Failures: 2147483647}, false},
		{"as many failures as deliveries are no crash", &backend.Delivery{Number: 5, Failures: 5}, true},
		{"a backend that does not count has no limit", &backend.Delivery{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			handled := false
			test.delivery.DeadLetters = true
			policy := middleware.Poison{Topic: "dead", MaxDeliveries: 5, Logger: quiet()}
			_, err := policy.Middleware(func(*message.Message) ([]*message.Message, error) {
				handled = true
				return nil, nil
			})(received(t, test.delivery))
			require.NoError(t, err)
			require.Equal(t, test.handled, handled)
			v, moved := test.delivery.Disposition()
			require.Equal(t, !test.handled, moved)
			if moved {
				require.Contains(t, v.Target.Metadata[backend.DeadLetterReason], "5 deliveries without any outcome")
			}
		})
	}
}

func TestPoison_ToleratesInterruptionsAndLostLeases(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		publish(t, broker, orderPlaced{1})
		for range 25 { // a router each time that is interrupted
			router := newRouter(broker, middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
			ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
				assert.NoError(t, ezq.Publish(ctx, broker, ezq.InterruptEvent{}))
				<-ctx.Done()
				return ezq.Permanent(ctx.Err())
			})
			require.ErrorIs(t, router.Run(t.Context()), ezq.ErrInterrupted)
		}
		router := newRouter(broker, middleware.Retry{Attempts: 1}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		run(t, router, time.Second)
		require.Len(t, drain(t, broker, "ezq_dead"), 1, "but not for ever")
	})
}

func TestPoison_LogsDeadLetter(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	policy := middleware.Poison{Topic: "dead", Logger: slog.New(slog.NewTextHandler(&log, nil))}
	d := &backend.Delivery{Number: 1, DeadLetters: true}
	_, err := chain(func(*message.Message) ([]*message.Message, error) { panic("boom") },
		policy.Middleware, middleware.Retry{Attempts: 1}.Middleware)(received(t, d))
	require.NoError(t, err)
	for _, want := range []string{"level=ERROR", "id=id", "to=dead", "failures=1", "boom", "stack=", "poison_test.go"} {
		require.Contains(t, log.String(), want)
	}
	v, _ := d.Disposition()
	require.NotContains(t, v.Target.Metadata[backend.DeadLetterReason], "poison_test.go")
}

func TestPoison_RefusesInvalidTopicAtOnce(t *testing.T) {
	t.Parallel()
	for topic, reason := range map[string]string{
		"a\x00": "it contains a NUL", "a\xff": "it is not UTF-8", strings.Repeat("x", 1025): "it has 1025 bytes, and the limit is 1024",
	} {
		want := fmt.Sprintf("middleware: Poison.Topic %q: %s: choose another name", excerpt.Of(topic), reason)
		require.PanicsWithValue(t, want, func() { middleware.Poison{Topic: topic}.Middleware(succeeding) })
	}
	middleware.Poison{Topic: "Orders, failed"}.Middleware(succeeding)
}
