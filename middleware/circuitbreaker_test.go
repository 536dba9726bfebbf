package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

// service is what a handler needs. It is down at first.
type service struct {
	up    atomic.Bool
	calls atomic.Int32
}

func (s *service) handle(context.Context, orderPlaced) error {
	s.calls.Add(1)
	if s.up.Load() {
		return nil
	}
	return errBoom
}

// newBreakerRouter returns a router whose handler needs a service, with a CircuitBreaker inside of Retry.
func newBreakerRouter(broker *memory.Broker, breaker middleware.CircuitBreaker, s *service) *ezq.Router {
	breaker.Logger = quiet()
	router := newRouter(broker, middleware.Retry{Attempts: 3}.Middleware, middleware.Poison{Logger: quiet()}.Middleware, breaker.Middleware)
	ezq.Handle(router, s.handle, ezq.Concurrency(5), ezq.Name("charge"))
	return router
}

// start runs the router until the test ends.
func start(t *testing.T, router *ezq.Router) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- router.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ran)
	})
	synctest.Wait()
}

func publishOrders(t *testing.T, broker *memory.Broker, n int) {
	t.Helper()
	for i := range n {
		publish(t, broker, orderPlaced{i + 1})
	}
}

func requireNothingDead(t *testing.T, broker *memory.Broker) {
	t.Helper()
	dead, err := broker.Find(t.Context(), "ezq_dead", backend.Selection{Event: "OrderPlaced"})
	require.NoError(t, err)
	require.Empty(t, dead)
}

func TestCircuitBreaker_SavesTheAttemptsOfWhatWaits(t *testing.T) {
	for name, pauses := range map[string]bool{"with a pause of the topic": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				var s service
				breaker := middleware.CircuitBreaker{Failures: 5}
				if pauses {
					breaker.Pauser = broker
				}
				publishOrders(t, broker, 100)
				start(t, newBreakerRouter(broker, breaker, &s))
				paused, err := broker.Pauses(t.Context(), "ezq")
				require.NoError(t, err)
				if pauses {
					require.Len(t, paused, 1)
					require.Contains(t, paused[0].By, "circuit breaker of charge at ")
					require.Equal(t, "5 events failed in a row; their errors are in the log", paused[0].Reason, "errors are for fewer than pauses are")
					require.Equal(t, 10*time.Second, time.Until(paused[0].Until))
				} else {
					require.Empty(t, paused)
				}
				time.Sleep(30 * time.Minute)
				calls := s.calls.Load()
				require.Less(t, calls, int32(5+5+15), "failures, what began with them, and a trial for each pause of 10 s, 20 s, … 5 min")
				require.Greater(t, calls, int32(10))
				requireNothingDead(t, broker)

				s.up.Store(true)
				time.Sleep(11 * time.Minute) // the longest pause, and the longest wait of Retry
				require.EqualValues(t, 100, s.calls.Load()-calls, "all are handled")
				requireNothingDead(t, broker)
			})
		})
	}
}

// Two failures, and another one or two: never three in a row.
func TestCircuitBreaker_CountsFailuresInARow(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var handled atomic.Int32
		router := newRouter(broker, middleware.Retry{}.Middleware, middleware.CircuitBreaker{Pauser: broker, Failures: 3, Logger: quiet()}.Middleware)
		ezq.Handle(router, func(_ context.Context, e orderPlaced) error {
			handled.Add(1)
			switch e.ID % 4 {
			case 0:
				return nil
			case 1:
				return ezq.Permanent(errBoom)
			case 2:
				return ezq.Snooze(time.Hour)
			}
			return ezq.RetryAfter(time.Hour, errBoom)
		}, ezq.Concurrency(1))
		publishOrders(t, broker, 40)
		start(t, router)
		require.EqualValues(t, 40, handled.Load())
		pauses, err := broker.Pauses(t.Context(), "ezq")
		require.NoError(t, err)
		require.Empty(t, pauses)
	})
}

func TestCircuitBreaker_TriesAgainOnceTheTopicIsResumed(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var s service
		publishOrders(t, broker, 20)
		start(t, newBreakerRouter(broker, middleware.CircuitBreaker{Pauser: broker, Failures: 5, Pause: time.Hour}, &s))
		failed := s.calls.Load()
		s.up.Store(true)
		time.Sleep(10 * time.Minute)
		require.Equal(t, failed, s.calls.Load())
		resumed, err := broker.Resume(t.Context(), "ezq")
		require.NoError(t, err)
		require.True(t, resumed)
		time.Sleep(2 * time.Second)
		require.Equal(t, failed+20, s.calls.Load())
	})
}

// slowPauser takes a while, as a server does. Then the topic is resumed.
type slowPauser struct{ backend.Pauser }

func (slowPauser) Pause(context.Context, string, backend.Pause) (backend.Paused, error) {
	time.Sleep(time.Second)
	return backend.Paused{}, nil
}

func (slowPauser) Pauses(context.Context, string) ([]backend.Paused, error) { return nil, nil }

func TestCircuitBreaker_MessageThatCameBeforeThePauseNoticesItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := middleware.CircuitBreaker{Pauser: slowPauser{}, Failures: 1, Pause: time.Hour, Logger: quiet()}.Middleware(failing(errBoom))
		begin := time.Now()
		for range 2 {
			go func() { _, _ = handle(plainMessage(t)) }()
			synctest.Wait()
		}
		synctest.Wait()
		_, err := handle(plainMessage(t))
		require.Equal(t, errBoom, err)
		require.Less(t, time.Since(begin), 10*time.Second)
	})
}

// While an operator keeps the topic paused, what waits here is not tried either.
func TestCircuitBreaker_TrialWaitsForALongerPause(t *testing.T) {
	for name, length := range map[string]time.Duration{"of an hour": time.Hour, "without an end": 0} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				var s service
				publishOrders(t, broker, 20)
				start(t, newBreakerRouter(broker, middleware.CircuitBreaker{Pauser: broker, Failures: 5}, &s))
				_, err := broker.Pause(t.Context(), "ezq", backend.Pause{By: "ada", Reason: "maintenance", For: length})
				require.NoError(t, err)
				failed := s.calls.Load()
				s.up.Store(true)
				time.Sleep(time.Hour - time.Second)
				require.Equal(t, failed, s.calls.Load())
				if length == 0 {
					_, err = broker.Resume(t.Context(), "ezq")
					require.NoError(t, err)
				}
				time.Sleep(3 * time.Second)
				require.Equal(t, failed+20, s.calls.Load())
			})
		})
	}
}

// pauserOfAll pauses all consumers of a topic, of which one group is paused by itself, too.
type pauserOfAll struct{ *memory.Broker }

func (p pauserOfAll) Pauses(ctx context.Context, topic string) ([]backend.Paused, error) {
	pauses, err := p.Broker.Pauses(ctx, topic)
	return append(pauses, backend.Paused{Topic: topic, Group: "audit"}), err
}

func TestCircuitBreaker_PausesOfGroupsDoNotCountForTheTopic(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var s service
		publishOrders(t, broker, 20)
		start(t, newBreakerRouter(broker, middleware.CircuitBreaker{Pauser: pauserOfAll{broker}, Failures: 5, Pause: time.Hour}, &s))
		failed := s.calls.Load()
		s.up.Store(true)
		_, err := broker.Resume(t.Context(), "ezq")
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		require.Equal(t, failed+20, s.calls.Load())
	})
}

// blindPauser pauses, and cannot say what is paused.
type blindPauser struct {
	*memory.Broker
	hangs bool
}

func (p blindPauser) Pauses(ctx context.Context, _ string) ([]backend.Paused, error) {
	if p.hangs {
		<-ctx.Done()
	}
	return nil, errors.New("no connection")
}

func TestCircuitBreaker_TriesIfThePausesCannotBeRead(t *testing.T) {
	for name, hangs := range map[string]bool{"because the server refuses": false, "because the server hangs": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				var s service
				publishOrders(t, broker, 20)
				start(t, newBreakerRouter(broker, middleware.CircuitBreaker{Pauser: blindPauser{broker, hangs}, Failures: 5}, &s))
				failed := s.calls.Load()
				s.up.Store(true)
				time.Sleep(10*time.Second - 1)
				require.Equal(t, failed, s.calls.Load())
				time.Sleep(15 * time.Second) // the call that hangs may take ten
				require.Equal(t, failed+20, s.calls.Load())
			})
		})
	}
}

// An event that is dropped unhandled tells nothing about what the handler needs.
func TestCircuitBreaker_DroppedEventDecidesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := ezq.NewRouter(broker, &ezq.Config{Logger: quiet(), Topics: map[string]ezq.TopicConfig{"ezq": {DropExpired: true}}})
		router.Use(middleware.Retry{}.Middleware, middleware.CircuitBreaker{Pauser: broker, Failures: 5, Logger: quiet()}.Middleware)
		var calls atomic.Int32
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			calls.Add(1)
			return ezq.RetryAfter(time.Hour, errBoom)
		}, ezq.Concurrency(1))
		for i := range 20 {
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{i}, ezq.Expires(time.Minute)))
			require.NoError(t, ezq.Publish(t.Context(), broker, orderPlaced{i}, ezq.Expires(time.Nanosecond)))
		}
		time.Sleep(time.Second)
		start(t, router)
		require.EqualValues(t, 5, calls.Load(), "failures in a row, with dropped events between them")
		time.Sleep(2 * time.Minute)
		require.Less(t, calls.Load(), int32(10), "a trial that was dropped closes nothing")
		require.Greater(t, router.Stats()["ezq"].Dropped, int64(20))
	})
}

// What waits for a trial keeps neither the router nor its message.
func TestCircuitBreaker_WaitEndsWithTheRouter(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		var s service
		publishOrders(t, broker, 20)
		ctx, stop := context.WithCancel(t.Context())
		ran := make(chan error)
		router := newBreakerRouter(broker, middleware.CircuitBreaker{Failures: 5, Pause: time.Hour}, &s)
		go func() { ran <- router.Run(ctx) }()
		synctest.Wait()
		require.EqualValues(t, 5, router.Stats()["ezq"].InFlight)
		begin := time.Now()
		stop()
		require.NoError(t, <-ran)
		require.Less(t, time.Since(begin), time.Second)
		failed := int(s.calls.Load())

		s.up.Store(true)
		router = newRouter(broker)
		var deliveries []int
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			deliveries = append(deliveries, ezq.MetaFromContext(ctx).Delivery)
			return nil
		}, ezq.Concurrency(1))
		run(t, router, time.Minute)
		require.Len(t, deliveries, 20)
		again := 0
		for _, n := range deliveries {
			again += n - 1
		}
		require.Equal(t, failed, again, "only what was handled counts")
	})
}

// The trial may end with anything, and there is another one.
func TestCircuitBreaker_UndecidedTrialIsFollowedByAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var outcome func() error
		handle := middleware.CircuitBreaker{Failures: 1, Pause: time.Minute, Logger: quiet()}.Middleware(func(*message.Message) ([]*message.Message, error) {
			return nil, outcome()
		})
		outcome = func() error { return errBoom }
		_, err := handle(plainMessage(t))
		require.Equal(t, errBoom, err)
		for name, end := range map[string]func() error{
			"a permanent failure": func() error { return ezq.Permanent(errBoom) },
			"a snooze":            func() error { return ezq.Snooze(time.Second) },
			"an interruption":     func() error { return ezq.ErrInterrupted },
			"the goroutine ends":  func() error { runtime.Goexit(); return nil },
		} {
			outcome = end
			done := make(chan struct{})
			go func() {
				defer close(done)
				_, err := handle(plainMessage(t))
				assert.Error(t, err, name)
			}()
			<-done
		}
		outcome = func() error { return nil }
		_, err = handle(plainMessage(t))
		require.NoError(t, err)
		begin := time.Now()
		_, err = handle(plainMessage(t))
		require.NoError(t, err)
		require.Zero(t, time.Since(begin), "it is closed")
	})
}

func TestCircuitBreaker_PausesGrow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := middleware.CircuitBreaker{Failures: 1, Pause: time.Second, MaxPause: 10 * time.Second, Logger: quiet()}.Middleware(failing(errBoom))
		var waits []time.Duration
		for range 6 {
			begin := time.Now()
			_, err := handle(plainMessage(t))
			require.Equal(t, errBoom, err)
			waits = append(waits, time.Since(begin))
		}
		require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second}, waits)
	})
}

// brokenPauser cannot pause.
type brokenPauser struct{ backend.Pauser }

func (brokenPauser) Pause(context.Context, string, backend.Pause) (backend.Paused, error) {
	return backend.Paused{}, errors.New("no connection")
}

func TestCircuitBreaker_WaitsAloneIfItCannotPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		handle := middleware.CircuitBreaker{Pauser: brokenPauser{}, Failures: 1, Logger: quiet()}.Middleware(failing(errBoom))
		_, err := handle(plainMessage(t))
		require.Equal(t, errBoom, err)
		begin := time.Now()
		_, err = handle(plainMessage(t))
		require.Equal(t, errBoom, err)
		require.Equal(t, 10*time.Second, time.Since(begin))
	})
}

// An error may have any text, and a pause may not. It has none of it.
func TestCircuitBreaker_PausesWhateverTheErrorSays(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "blanks": " \n", "NUL": "a\x00b", "bytes": "a\xffb", "much": strings.Repeat("ä", 10_000),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) {
				router := newRouter(broker, middleware.CircuitBreaker{Pauser: broker, Failures: 1, Logger: quiet()}.Middleware)
				ezq.Handle(router, func(context.Context, orderPlaced) error { return errors.New(text) }, ezq.Name(strings.Repeat("n", 255)))
				publish(t, broker, orderPlaced{1})
				start(t, router)
				pauses, err := broker.Pauses(t.Context(), "ezq")
				require.NoError(t, err)
				require.Len(t, pauses, 1)
				require.NoError(t, backend.Pause{By: pauses[0].By, Reason: pauses[0].Reason}.Check())
				require.Equal(t, "an event failed; its error is in the log", pauses[0].Reason)
			})
		})
	}
}

func ExampleCircuitBreaker() {
	client := memory.New(nil)
	router := ezq.NewRouter(client, nil)
	breaker := middleware.CircuitBreaker{Pauser: client, Failures: 3, Pause: 10 * time.Millisecond, Logger: quiet()}
	router.Use(
		middleware.Retry{Delay: time.Millisecond}.Middleware,
		breaker.Middleware, // inside of Retry
	)
	calls := 0
	ezq.Handle(router, func(context.Context, orderPlaced) error {
		if calls++; calls <= 3 {
			return errors.New("the bank is down")
		}
		fmt.Println("charged in call", calls)
		return nil
	})

	ctx := context.Background()
	_ = ezq.Publish(ctx, client, orderPlaced{1})
	_ = ezq.Publish(ctx, client, ezq.EndEvent{}, ezq.Delay(time.Second))
	_ = router.Run(ctx)
	// Output: charged in call 4
}
