package ezqotel_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
	ezqotel "github.com/ezq-go/ezq/otel"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func publish(t *testing.T, ctx context.Context, p message.Publisher, event any, opts ...ezq.PublishOption) {
	t.Helper()
	if err := ezq.Publish(ctx, p, event, opts...); err != nil {
		t.Error(err)
	}
}

func TestTrace_LeadsThroughHandlerToNextPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t, continueTraces), newBroker(t, memory.Config{})
		onward := h.Publisher(broker)
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(ctx context.Context, e Ordered) error { return ezq.Publish(ctx, onward, Shipped(e)) })
			ezq.Handle(r, func(context.Context, Shipped) error { return nil })
		}, func(ctx context.Context, p message.Publisher) { publish(t, ctx, p, Ordered{1}) })

		ordered := h.span("process ezq", attribute.String("ezq.event", "Ordered"), outcome("succeeded"), attribute.Int("ezq.delivery", 1))
		shipped := h.span("process ezq", attribute.String("ezq.event", "Shipped"), outcome("succeeded"))
		first := spanOf(h, ordered.Parent())
		second := spanOf(h, shipped.Parent())
		if first.Name() != "publish ezq" || second.Name() != "publish ezq" {
			t.Errorf("the parents are %q and %q", first.Name(), second.Name())
		}
		if second.Parent().SpanID() != ordered.SpanContext().SpanID() {
			t.Error("what the handler published is not below the handler's span")
		}
		if first.SpanKind() != trace.SpanKindProducer || ordered.SpanKind() != trace.SpanKindConsumer {
			t.Errorf("the kinds are %v and %v", first.SpanKind(), ordered.SpanKind())
		}
		for _, span := range h.spans.Ended() {
			if !hasAll(span, []attribute.KeyValue{
				attribute.String("messaging.system", "ezq"), attribute.String("messaging.destination.name", "ezq"),
			}) {
				t.Errorf("%s has %v", span.Name(), span.Attributes())
			}
		}
	})
}

func spanOf(h *harness, context trace.SpanContext) sdktrace.ReadOnlySpan {
	h.t.Helper()
	for _, span := range h.spans.Ended() {
		if span.SpanContext().SpanID() == context.SpanID() && span.SpanContext().TraceID() == context.TraceID() {
			return span
		}
	}
	h.t.Fatalf("no span has the context %v, among:\n%s", context, h.list())
	return nil
}

// continueTraces is for queues whose publishers are trusted.
func continueTraces(c *ezqotel.Config) { c.ContinueTraces = true }

func TestTrace_OfHandlerIsLinkedToPublish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(context.Context, Ordered) error { return nil })
		}, func(ctx context.Context, p message.Publisher) { publish(t, ctx, p, Ordered{1}) })

		from, to := h.span("publish ezq"), h.span("process ezq")
		if from.SpanContext().TraceID() == to.SpanContext().TraceID() || to.Parent().IsValid() {
			t.Error("the trace goes on")
		}
		if len(to.Links()) != 1 || to.Links()[0].SpanContext.SpanID() != from.SpanContext().SpanID() {
			t.Errorf("the links are %v", to.Links())
		}
	})
}

func TestBatch_IsLinkedToPublishOfEachEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		h.run(broker, func(r *ezq.Router) {
			ezq.HandleBatch(r, ezqotel.Batch(h.Telemetry, func(ctx context.Context, _ []Ordered) error {
				if !trace.SpanContextFromContext(ctx).IsValid() {
					t.Error("the handler of the batch has no span")
				}
				return nil
			}), ezq.Size(3), ezq.Linger(time.Hour))
		}, func(ctx context.Context, p message.Publisher) {
			for i := range 3 {
				publish(t, ctx, p, Ordered{i})
			}
		})

		batch := h.span("process ezq", attribute.Int("messaging.batch.message_count", 3))
		linked := map[trace.SpanID]bool{}
		for _, link := range batch.Links() {
			linked[link.SpanContext.SpanID()] = true
			if spanOf(h, link.SpanContext).Name() != "publish ezq" {
				t.Error("a link leads elsewhere")
			}
		}
		if len(linked) != 3 {
			t.Errorf("it is linked to %d publishes, not 3", len(linked))
		}
	})
}

func TestTrace_ShowsRetryAndDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		h.run(broker, func(r *ezq.Router) {
			r.Use(middleware.Retry{Attempts: 2}.Middleware, middleware.Poison{Logger: quiet()}.Middleware)
			ezq.Handle(r, func(context.Context, Ordered) error { return errors.New("no stock") })
		}, func(ctx context.Context, p message.Publisher) {
			publish(t, ctx, p, Ordered{1})
			time.Sleep(time.Minute)
		})

		again := h.span("process ezq", outcome("failed"), attribute.Int("ezq.delivery", 1), attribute.Int("ezq.failures", 0))
		if again.Status().Code != codes.Error || again.Status().Description != "no stock" || !hasEvent(again, "ezq.retry") {
			t.Errorf("the first attempt: status %v, events %v", again.Status(), again.Events())
		}
		given := h.span("process ezq", outcome("dead_lettered"), attribute.Int("ezq.delivery", 2), attribute.Int("ezq.failures", 1))
		if given.Status().Code != codes.Error || given.Status().Description != "no stock" || !hasEvent(given, "ezq.dead_letter") {
			t.Errorf("the second attempt: status %v, events %v", given.Status(), given.Events())
		}
		for name, want := range map[string]float64{"failed": 1, "dead_lettered": 1} {
			if got := h.value("messaging.client.consumed.messages", outcome(name)); got != want {
				t.Errorf("%v messages %s, not %v", got, name, want)
			}
		}
	})
}

func TestTrace_ShowsDeadLetterOfRouter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(context.Context, Ordered) error { return ezq.Permanent(errors.New("no such order")) })
		}, func(ctx context.Context, p message.Publisher) {
			publish(t, ctx, p, Ordered{1})
			time.Sleep(time.Minute)
		})
		given := h.span("process ezq", outcome("dead_lettered"), attribute.Int("ezq.delivery", 1))
		if given.Status().Code != codes.Error || given.Status().Description != "no such order" || !hasEvent(given, "ezq.dead_letter") || hasEvent(given, "ezq.retry") {
			t.Errorf("status %v, events %v", given.Status(), given.Events())
		}
		if got := h.value("messaging.client.consumed.messages", outcome("dead_lettered")); got != 1 {
			t.Errorf("%v messages, not 1", got)
		}
		messages, err := broker.Subscribe(t.Context(), "ezq_dead")
		if err != nil {
			t.Fatal(err)
		}
		(<-messages).Ack()
	})
}

// Watermill's router has no word for what is permanent: the message comes back.
func TestWatermillRouter_PermanentErrorIsNoDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		handler := h.Middleware(func(*message.Message) ([]*message.Message, error) {
			return nil, ezq.Permanent(errors.New("no such order"))
		})
		publish(t, t.Context(), broker, Ordered{1})
		messages, err := broker.Subscribe(t.Context(), "ezq")
		if err != nil {
			t.Fatal(err)
		}
		msg := <-messages
		_, _ = handler(msg)
		msg.Ack()
		h.span("process ", outcome("failed"))
	})
}

func hasEvent(span sdktrace.ReadOnlySpan, name string) bool {
	for _, event := range span.Events() {
		if event.Name == name {
			return true
		}
	}
	return false
}

func TestTrace_InterruptionIsNoFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{})
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(ctx context.Context, _ Ordered) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}, func(ctx context.Context, p message.Publisher) {
			publish(t, ctx, p, Ordered{1})
			publish(t, ctx, p, ezq.EndEvent{Timeout: time.Second})
			time.Sleep(time.Minute)
		})
		span := h.span("process ezq", outcome("released"))
		if span.Status().Code == codes.Error || len(span.Events()) != 0 {
			t.Errorf("status %v, events %v", span.Status(), span.Events())
		}
	})
}

func TestTrace_ShowsLostLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{MaxExtension: time.Minute, Logger: quiet()})
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(ctx context.Context, _ Ordered) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}, func(ctx context.Context, p message.Publisher) {
			publish(t, ctx, p, Ordered{1})
			time.Sleep(70 * time.Second)
		})
		if span := h.span("process ezq", outcome("lease_lost"), attribute.Int("ezq.delivery", 1)); span.Status().Code != codes.Error {
			t.Errorf("status %v", span.Status())
		}
	})
}

func TestTrace_ShowsCancelledMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h, broker := newHarness(t), newBroker(t, memory.Config{Logger: quiet()})
		h.run(broker, func(r *ezq.Router) {
			ezq.Handle(r, func(ctx context.Context, _ Ordered) error {
				<-ctx.Done()
				return ctx.Err()
			})
		}, func(ctx context.Context, p message.Publisher) {
			if err := ezq.Publish(ctx, p, Ordered{1}, ezq.ID("a")); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			cancelled, err := broker.CancelRunning(ctx, ezq.DefaultTopic, backend.Selection{ID: "a"})
			if err != nil || cancelled.Stopped != 1 {
				t.Errorf("%+v, %v", cancelled, err)
			}
			time.Sleep(time.Minute)
		})
		span := h.span("process ezq", outcome("cancelled"))
		if span.Status().Code == codes.Error || len(span.Events()) != 0 {
			t.Errorf("status %v, events %v", span.Status(), span.Events())
		}
	})
}

func TestMiddleware_PanicEndsSpanAndContinues(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	defer func() {
		if recover() != "oh" {
			t.Error("the panic went no further")
		}
		if span := h.span("process ", outcome("failed")); span.Status().Code != codes.Error {
			t.Errorf("status %v", span.Status())
		}
		if h.value("ezq.process.active") != 0 {
			t.Error("it still counts as being handled")
		}
	}()
	_, _ = h.Middleware(func(*message.Message) ([]*message.Message, error) { panic("oh") })(message.NewMessage("1", nil))
}

func TestTrace_ShowsLeaseLostInTransaction(t *testing.T) {
	t.Parallel()
	h := newHarness(t)
	lost := fmt.Errorf("handled in vain: %w", backend.ErrLeaseLost) // as pgmq.TxMiddleware says it
	_, err := h.Middleware(func(*message.Message) ([]*message.Message, error) { return nil, lost })(message.NewMessage("1", nil))
	if !errors.Is(err, lost) {
		t.Errorf("the error is %v", err)
	}
	h.span("process ", outcome("lease_lost"))
}

func TestTrace_IgnoresDecisionsOfUntrustedMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := func(c *ezqotel.Config, h *harness) {
			c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(h.spans), sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample())))
		}
		for _, trusted := range []bool{false, true} {
			spans := &harness{t: t, spans: tracetest.NewSpanRecorder()}
			h, broker := newHarness(t, func(c *ezqotel.Config) {
				c.ContinueTraces = trusted
				never(c, spans)
			}), newBroker(t, memory.Config{})
			forged := message.NewMessage("1", []byte(`{"_type":"Ordered"}`))
			forged.Metadata = message.Metadata{
				"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "tenant=admin,role=root",
			}
			var said string
			var within trace.SpanContext
			h.run(broker, func(r *ezq.Router) {
				ezq.Handle(r, func(ctx context.Context, _ Ordered) error {
					said, within = baggage.FromContext(ctx).String(), trace.SpanContextFromContext(ctx)
					return nil
				})
			}, func(_ context.Context, _ message.Publisher) {
				if err := broker.Publish("ezq", forged); err != nil {
					t.Error(err)
				}
			})
			obeyed := within.TraceID().String() == "0af7651916cd43dd8448eb211c80319c"
			if (said != "") != trusted || within.IsSampled() != trusted || obeyed != trusted || (len(spans.spans.Ended()) > 0) != trusted {
				t.Errorf("trusted %v: baggage %q, %v, %d spans", trusted, said, within, len(spans.spans.Ended()))
			}
		}
	})
}
