package ezq_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

var errBoom = errors.New("boom")

func TestDisposition_FollowsHandlerError(t *testing.T) {
	for _, test := range []struct {
		name    string
		returns func() error
		again   time.Duration // until the second delivery; 0: there is none
	}{
		{"nil completes the event", func() error { return nil }, 0},
		{"an error is tried again after a second", func() error { return errBoom }, time.Second},
		{"a permanent error is not tried again", func() error { return ezq.Permanent(errBoom) }, 0},
		{"a permanent error with a delay is not tried again", func() error { return ezq.RetryAfter(time.Second, ezq.Permanent(errBoom)) }, 0},
		{"RetryAfter decides when", func() error { return ezq.RetryAfter(time.Hour, errBoom) }, time.Hour},
		{"RetryAfter without a delay is tried again at once", func() error { return ezq.RetryAfter(0, errBoom) }, time.Nanosecond},
		{"a panic is an error", func() error { panic("boom") }, time.Second},
		{"an error as a panic is an error", func() error { panic(errBoom) }, time.Second},
		{"leaving the goroutine is an error", func() error { runtime.Goexit(); return nil }, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				ctx, stop := context.WithTimeout(t.Context(), 24*time.Hour)
				defer stop()
				router := newRouter(broker, ezq.Config{})
				start := time.Now()
				var again time.Duration
				ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
					if ezq.MetaFromContext(ctx).Failures == 0 {
						return test.returns()
					}
					again = max(time.Since(start), 1)
					return nil
				})
				publish(t, broker, orderPlaced{1})
				require.NoError(t, router.Run(ctx))
				require.LessOrEqual(t, again, test.again)
				require.GreaterOrEqual(t, again, test.again*4/5, "jitter takes up to a fifth off")
			})
		})
	}
}

func TestRedelivery_WaitsLongerEachTime(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		router := newRouter(broker, ezq.Config{})
		var last time.Time
		var waits []time.Duration
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			check(t, len(waits), ezq.MetaFromContext(ctx).Failures)
			check(t, len(waits)+1, ezq.MetaFromContext(ctx).Delivery)
			waits = append(waits, time.Since(last))
			last = time.Now()
			return errBoom
		})
		publish(t, broker, orderPlaced{1})
		require.NoError(t, router.Run(ctx))
		for i, wait := range waits[1:] {
			want := min(time.Second<<i, 5*time.Minute)
			require.LessOrEqual(t, wait, want)
			require.GreaterOrEqual(t, wait, want*4/5)
		}
		require.Greater(t, len(waits), 15)
	})
}

func TestRedelivery_DelaysNoOtherEvent(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		handled := 0
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			if e.ID == 0 {
				return errBoom
			}
			handled++
			return nil
		})
		for i := range 10 {
			publish(t, broker, orderPlaced{i})
		}
		publish(t, broker, ezq.EndEvent{})
		start := time.Now()
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, 9, handled)
		require.Zero(t, time.Since(start), "nothing waited for the failing one")
	})
}

func TestDeadLetter_WithoutMiddlewareTakesUnhandledEvents(t *testing.T) {
	for _, test := range []struct {
		name, payload string
		log           string
	}{
		{"an unknown event", `{"_type":"Unheard"}`, `no handler for event \"Unheard\" on topic \"ezq\"`},
		{"a payload of another shape", `{"_type":"OrderPlaced","ID":"seven"}`, "decode OrderPlaced"},
		{"a payload that is not JSON", "\x00\xff", "decode OrderPlaced"},
		{"an empty payload", "", "decode OrderPlaced"},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				var log bytes.Buffer
				router := ezq.NewRouter(broker, &ezq.Config{UnknownFor: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
				ezq.Handle(router, func(context.Context, orderPlaced) error {
					t.Error("the handler was called")
					return nil
				})
				require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(test.payload))))
				require.NoError(t, router.Run(ctx))
				require.Contains(t, log.String(), test.log)
				require.Equal(t, 1, bytes.Count(log.Bytes(), []byte("event dead-lettered")))
				require.EqualValues(t, 1, router.Stats()[ezq.DefaultTopic].DeadLettered)

				events, err := broker.Subscribe(t.Context(), "ezq_dead")
				require.NoError(t, err)
				msg := <-events
				require.Equal(t, test.payload, string(msg.Payload))
				require.Equal(t, "ezq", msg.Metadata[backend.DeadLetterTopic])
				msg.Ack()
			})
		})
	}
}

func TestIgnore_CountsNamedEvents(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		router.Ignore(ezq.DefaultTopic, "unheard", "EZQOther")
		router.Use(func(message.HandlerFunc) message.HandlerFunc {
			return func(*message.Message) ([]*message.Message, error) {
				t.Error("a middleware sees it, and may make a dead letter of it")
				return nil, errBoom
			}
		})
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil })
		type unheard struct{}
		publish(t, broker, unheard{}, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		stats := router.Stats()[ezq.DefaultTopic]
		require.EqualValues(t, 1, stats.Ignored)
		require.Zero(t, stats.Succeeded+stats.InFlight)
		require.Empty(t, remaining(t, broker))
	})
}

func TestUnnamedMessage_ReachesOnlyHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		var got ezq.Meta
		ezq.Handle(router, func(ctx context.Context, e orderPlaced) error {
			check(t, 7, e.ID)
			got = ezq.MetaFromContext(ctx)
			return nil
		}, ezq.Alias("OldName"))
		ezq.Handle(router, func(context.Context, ezq.EndEvent) error { return nil })
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"ID":7}`))))
		publish(t, broker, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, "OrderPlaced", got.Event)
	})
}

func TestAlias_IsHandledToo(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		handled := 0
		ezq.Handle(router, func(context.Context, orderPlaced) error { handled++; return nil }, ezq.Alias("order.placed"))
		require.NoError(t, broker.Publish("ezq", message.NewMessage("1", []byte(`{"_type":"order.placed"}`))))
		publish(t, broker, orderPlaced{1}, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, 2, handled)
	})
}

func TestMiddleware_RunsFromOutsideIn(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var order []string
		log := func(name string) message.HandlerMiddleware {
			return func(next message.HandlerFunc) message.HandlerFunc {
				return func(msg *message.Message) ([]*message.Message, error) {
					order = append(order, name+" sees "+ezq.MetaFromContext(msg.Context()).Event)
					return next(msg)
				}
			}
		}
		router := newRouter(broker, ezq.Config{})
		router.Use(log("first"), log("second"))
		ezq.Handle(router, func(context.Context, orderPlaced) error { return nil }, ezq.Use(log("own")))
		publish(t, broker, orderPlaced{1}, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.Equal(t, []string{"first sees OrderPlaced", "second sees OrderPlaced", "own sees OrderPlaced"}, order)
	})
}

// Nothing would publish them.
func TestMiddleware_ReturningMessagesIsFailure(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		logs string
	}{
		"messages without an error are a failure":              {nil, "call Publish instead"},
		"messages with an error are a failure with that error": {errBoom, "boom"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router, log := newLoggingRouter(broker)
				router.Use(func(message.HandlerFunc) message.HandlerFunc {
					return func(msg *message.Message) ([]*message.Message, error) { return []*message.Message{msg}, test.err }
				})
				handle(router)
				publish(t, broker, orderPlaced{1})
				runFor(t, router, time.Second/2)
				require.EqualValues(t, 1, router.Stats()["ezq"].Failed)
				require.Contains(t, log.String(), test.logs)
				require.Len(t, remaining(t, broker), 1)
			})
		})
	}
}

func TestRouter_WorksOnAnyWatermillPubSub(t *testing.T) {
	t.Parallel()
	queue := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, nil)
	ctx, stop := context.WithCancel(t.Context())
	router := newRouter(queue, ezq.Config{})
	failed := false
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		assert(t, ezq.StoppingFromContext(ctx) != nil)
		if !failed {
			failed = true
			return ezq.RetryAfter(time.Millisecond, errBoom)
		}
		stop()
		return nil
	})
	publish(t, queue, orderPlaced{1})
	require.ErrorIs(t, ezq.Publish(ctx, queue, orderPlaced{1}, ezq.Delay(time.Second)), errors.ErrUnsupported)
	require.NoError(t, router.Run(ctx))
	require.NoError(t, queue.Close())
}

func TestLog_ThrottlesRecordsOfFailures(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var log bytes.Buffer
		router := ezq.NewRouter(broker, &ezq.Config{Concurrency: 100, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		ezq.Handle(router, func(context.Context, orderPlaced) error { return ezq.RetryAfter(time.Second, errors.New("down")) })
		for i := range 100 {
			publish(t, broker, orderPlaced{i})
		}
		runFor(t, router, 90*time.Second)
		failed := router.Stats()[ezq.DefaultTopic].Failed
		require.Greater(t, failed, int64(8_000))
		shown := strings.Count(log.String(), `msg="ezq: event failed"`)
		require.Equal(t, 20, shown)
		counted := 0
		for _, n := range regexp.MustCompile(`and more, which.* messages=(\d+)`).FindAllStringSubmatch(log.String(), -1) {
			more, err := strconv.Atoi(n[1])
			require.NoError(t, err)
			counted += more
		}
		require.EqualValues(t, failed, shown+counted)
	})
}

// Middleware that settles a message itself, as pgmq's TxMiddleware, finds out that the lease is lost
// before the context of the message ends.
func TestRouter_CountsNoFailureWhenHandlerSaysLeaseIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet()})
		calls := 0
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			if calls++; calls == 2 {
				assert(t, ezq.MetaFromContext(ctx).Failures == 0)
				stop()
				return nil
			}
			return fmt.Errorf("handled in vain: %w", ezq.ErrLeaseLost)
		})
		require.NoError(t, ezq.Publish(ctx, broker, orderPlaced{}))
		require.NoError(t, router.Run(ctx))
		stats := router.Stats()[ezq.DefaultTopic]
		require.Zero(t, stats.Failed)
		require.EqualValues(t, 1, stats.Released)
	})
}
