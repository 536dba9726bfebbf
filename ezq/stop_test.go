package ezq_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

// scenario is a router that is stopped while a handler works.
type scenario struct {
	name           string
	config         ezq.Config
	stops          []trigger     // one a second
	handlerTime    time.Duration // how long the handler goes on after that
	ignoresContext bool          // it does not look at its context

	// What happens then:
	wantErr         error         // of Run
	wantAfter       time.Duration // from the first trigger on
	wantInterrupted bool          // the context of the handler ends
	wantReleased    bool          // the event comes back, as one that has not failed
}

type trigger func(ctx context.Context, queue message.Publisher, cancel func()) error

func cancelled(_ context.Context, _ message.Publisher, cancel func()) error { cancel(); return nil }

func sent(event any) trigger {
	return func(ctx context.Context, queue message.Publisher, _ func()) error {
		return ezq.Publish(ctx, queue, event, ezq.Topic("control"))
	}
}

// This is what the documentation of Run promises.
func TestRun_StopsAsDocumented(t *testing.T) {
	const second, hour, never = time.Second, time.Hour, 1000 * time.Hour
	drain := func(d time.Duration) ezq.Config { return ezq.Config{DrainTimeout: d} }
	for _, test := range []scenario{
		{
			name:  "the end of Run's context lets handlers finish",
			stops: []trigger{cancelled}, handlerTime: 9 * second,
			wantAfter: 9 * second,
		},
		{
			name:  "an EndEvent lets handlers finish",
			stops: []trigger{sent(ezq.EndEvent{})}, handlerTime: 9 * second,
			wantAfter: 9 * second,
		},
		{
			name:  "a handler that takes longer than 10 seconds is interrupted, and its event comes back",
			stops: []trigger{cancelled}, handlerTime: hour,
			wantAfter: 10 * second, wantErr: ezq.ErrDrainTimeout, wantInterrupted: true, wantReleased: true,
		},
		{
			name: "a handler that takes longer than Config.DrainTimeout is interrupted", config: drain(2 * second),
			stops: []trigger{cancelled}, handlerTime: hour,
			wantAfter: 2 * second, wantErr: ezq.ErrDrainTimeout, wantInterrupted: true, wantReleased: true,
		},
		{
			name: "a handler that takes longer than EndEvent.Timeout is interrupted", config: drain(2 * second),
			stops: []trigger{sent(ezq.EndEvent{Timeout: 20 * second})}, handlerTime: hour,
			wantAfter: 20 * second, wantErr: ezq.ErrDrainTimeout, wantInterrupted: true, wantReleased: true,
		},
		{
			name: "a handler may take longer than its lease lasts, for the lease is extended", config: drain(hour),
			stops: []trigger{cancelled}, handlerTime: hour / 2,
			wantAfter: hour / 2,
		},
		{
			name:  "the first reason to stop decides",
			stops: []trigger{sent(ezq.EndEvent{Timeout: 20 * second}), cancelled}, handlerTime: 18 * second,
			wantAfter: 19 * second,
		},
		{
			name:  "an InterruptEvent does not wait for handlers",
			stops: []trigger{sent(ezq.InterruptEvent{})}, handlerTime: hour,
			wantAfter: 0, wantErr: ezq.ErrInterrupted, wantInterrupted: true, wantReleased: true,
		},
		{
			name:  "a handler that succeeds although it is interrupted has succeeded",
			stops: []trigger{sent(ezq.InterruptEvent{})}, handlerTime: 3 * second, ignoresContext: true,
			wantAfter: 3 * second, wantErr: ezq.ErrInterrupted, wantInterrupted: true,
		},
		{
			name: "a handler that does not return is left behind after 5 seconds", config: drain(2 * second),
			stops: []trigger{cancelled}, handlerTime: never, ignoresContext: true,
			wantAfter: 7 * second, wantErr: ezq.ErrDrainTimeout, wantInterrupted: true, wantReleased: true,
		},
		{
			name:  "a handler that does not return is left behind 5 seconds after an InterruptEvent",
			stops: []trigger{sent(ezq.InterruptEvent{})}, handlerTime: never, ignoresContext: true,
			wantAfter: 5 * second, wantErr: ezq.ErrInterrupted, wantInterrupted: true, wantReleased: true,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, broker *memory.Broker) { test.run(t, broker) })
		})
	}
}

func (s scenario) run(t *testing.T, broker *memory.Broker) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	router := newRouter(broker, s.config)
	stopped := time.Now().Add(time.Second)
	var cause error
	ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
		defer func() { cause = context.Cause(ctx) }()
		done := time.After(time.Until(stopped.Add(time.Duration(len(s.stops)-1)*time.Second + s.handlerTime)))
		select {
		case <-done:
		case <-ctx.Done():
			if !s.ignoresContext {
				return ctx.Err()
			}
			<-done
		}
		return nil
	})
	ezq.Handle(router, ignore[orderPlaced], ezq.Topic("control"))
	publish(t, broker, orderPlaced{1})
	for i, stop := range s.stops {
		time.AfterFunc(time.Until(stopped)+time.Duration(i)*time.Second, func() { assert(t, stop(t.Context(), broker, cancel) == nil) })
	}

	err := router.Run(ctx)
	require.Equal(t, s.wantAfter, time.Since(stopped))
	require.ErrorIs(t, err, s.wantErr)
	require.NotErrorIs(t, err, context.Canceled, "that its context ended is no error")
	rest := remaining(t, broker)
	if s.ignoresContext && s.wantReleased {
		require.ErrorContains(t, err, "still running: OrderPlaced")
		time.Sleep(s.handlerTime) // let it end, to see how its context did
		synctest.Wait()
	}
	if s.wantInterrupted {
		require.ErrorIs(t, cause, ezq.ErrInterrupted)
	} else {
		require.NoError(t, cause)
	}
	if !s.wantReleased {
		require.Empty(t, rest)
		return
	}
	require.Len(t, rest, 1)
	require.Zero(t, rest[0].Failures, "an interrupted event has not failed")
	require.Equal(t, 2, rest[0].Delivery)
}

// What was fetched and not begun is for others at once, not when the router has stopped.
func TestDrain_ReleasesUnstartedEventsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 1, DrainTimeout: 2 * time.Hour})
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			stop()
			time.Sleep(time.Hour / 2)
			return nil
		})
		for i := range 5 {
			publish(t, broker, orderPlaced{i})
		}
		start := time.Now()
		stopped := make(chan error)
		go func() { stopped <- router.Run(ctx) }()
		<-ctx.Done()
		synctest.Wait()
		other := newRouter(broker, ezq.Config{Concurrency: 1})
		handled := 0
		otherCtx, stopOther := context.WithCancel(t.Context())
		ezq.Handle(other, func(ctx context.Context, _ orderPlaced) error {
			check(t, 1, ezq.MetaFromContext(ctx).Delivery) // to release what was only fetched is no delivery
			assert(t, time.Since(start) < time.Minute)
			if handled++; handled == 4 {
				stopOther()
			}
			return nil
		})
		require.NoError(t, other.Run(otherCtx))
		require.NoError(t, <-stopped)
		require.Equal(t, time.Hour/2, time.Since(start))
		require.Empty(t, remaining(t, broker))
	})
}

// halfOpen is a queue with a topic that cannot be subscribed to, as it turns out after
// a second.
type halfOpen struct{ *memory.Broker }

var errNoSuchTopic = errors.New("no such topic")

func (h halfOpen) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	if topic == "bad" {
		time.Sleep(time.Second)
		return nil, errNoSuchTopic
	}
	return h.Broker.Subscribe(ctx, topic)
}

var _ backend.Backend = halfOpen{}

func TestDrain_FollowsLossOfTopic(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(halfOpen{broker}, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			time.Sleep(9 * time.Second)
			return ctx.Err()
		})
		ezq.Handle(router, ignore[orderPlaced], ezq.Topic("bad"))
		publish(t, broker, orderPlaced{1})
		start := time.Now()
		var failed *ezq.SubscriptionError
		err := router.Run(t.Context())
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "bad", failed.Topic)
		require.ErrorIs(t, err, errNoSuchTopic)
		require.Equal(t, 9*time.Second, time.Since(start))
		require.Empty(t, remaining(t, broker))
	})
}

func TestStopping_ReachesLongHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{})
		ezq.Handle(router, func(ctx context.Context, _ orderPlaced) error {
			<-ezq.StoppingFromContext(ctx)
			check(t, nil, ctx.Err()) // it may still work
			return nil
		})
		publish(t, broker, orderPlaced{1})
		time.AfterFunc(time.Minute, stop)
		require.NoError(t, router.Run(ctx))
		require.Empty(t, remaining(t, broker))
	})
}

func TestRun_MayBeStoppedByHandler(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		ctx, stop := context.WithCancel(t.Context())
		router := newRouter(broker, ezq.Config{Concurrency: 1})
		ezq.Handle(router, func(context.Context, orderPlaced) error {
			stop()
			return nil
		})
		publish(t, broker, orderPlaced{1}, orderPlaced{2})
		require.NoError(t, router.Run(ctx))
		require.Len(t, remaining(t, broker), 1)
	})
}
