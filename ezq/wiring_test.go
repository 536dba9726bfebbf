package ezq_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/middleware"
)

type generic[T any] struct{ Value T }

type falseEndEvent struct{}

func (falseEndEvent) EventName() string { return "EZQEndEvent" }

func ignore[E any](context.Context, E) error         { return nil }
func ignoreAll[E any](context.Context, []E) error    { return nil }
func handle(r *ezq.Router, opts ...ezq.HandleOption) { ezq.Handle(r, ignore[orderPlaced], opts...) }

// A mistake in the program is refused where it is made, with what to write instead.
func TestRouter_PanicsOnWiringMistake(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		mistake func(r *ezq.Router)
		want    string
	}{
		"no handler function": {
			func(r *ezq.Router) { ezq.Handle[orderPlaced](r, nil) },
			"ezq: Handle: the handler of OrderPlaced is nil: pass a function",
		},
		"an interface as an event": {
			func(r *ezq.Router) { ezq.Handle(r, ignore[any]) },
			"ezq: event type interface {} is an interface: use a concrete type",
		},
		"an unnamed type as an event": {
			func(r *ezq.Router) { ezq.Handle(r, ignore[struct{ ID int }]) },
			"ezq: event type struct { ID int } has no name of its own: declare a type for the event",
		},
		"a generic type as an event": {
			func(r *ezq.Router) { ezq.Handle(r, ignore[generic[int]]) },
			"ezq: event type ezq_test.generic[int] is generic, and Go's names of generic types are not stable: give it an EventName method",
		},
		"an event with the name of a control event": {
			func(r *ezq.Router) { ezq.Handle(r, ignore[falseEndEvent]) },
			"ezq: event type ezq_test.falseEndEvent has the name EZQEndEvent, which stops routers: use ezq.EndEvent or ezq.InterruptEvent, or another name",
		},
		"two handlers without names": {
			func(r *ezq.Router) { handle(r); handle(r) },
			`ezq: Handle: event "OrderPlaced" on topic "ezq" has several handlers, and one is without a name: ` +
				"give each handler a name of its own with Name, and keep the names",
		},
		"two handlers, and only one has a name": {
			func(r *ezq.Router) { handle(r); handle(r, ezq.Name("second")) },
			`ezq: Handle: event "OrderPlaced" on topic "ezq" has several handlers, and one is without a name: ` +
				"give each handler a name of its own with Name, and keep the names",
		},
		"two handlers of one name": {
			func(r *ezq.Router) { handle(r, ezq.Name("mail")); handle(r, ezq.Name("mail")) },
			`ezq: Handle: event "OrderPlaced" on topic "ezq" has two handlers named "mail": ` +
				"give each handler a name of its own with Name, and keep the names",
		},
		"a second handler by an alias": {
			func(r *ezq.Router) { handle(r); ezq.Handle(r, ignore[mailDue], ezq.Alias("OrderPlaced")) },
			`ezq: Handle: event "OrderPlaced" on topic "ezq" has several handlers, and one is without a name: ` +
				"give each handler a name of its own with Name, and keep the names",
		},
		"an empty name":       {func(r *ezq.Router) { handle(r, ezq.Name("")) }, `ezq: Name: "" is empty: use another name`},
		"an alias of nothing": {func(*ezq.Router) { ezq.Alias("Old", "") }, `ezq: Alias: "" is empty: use the name that the events had`},
		"a control event as an alias": {
			func(*ezq.Router) { ezq.Alias("EZQInterruptEvent") },
			`ezq: Alias: "EZQInterruptEvent" stops routers: write a handler of that event`,
		},
		"an empty topic": {
			func(r *ezq.Router) { handle(r, ezq.Topic("")) },
			`ezq: Handle: the topic is empty: name one, or leave Topic out for "ezq"`,
		},
		"no concurrency": {
			func(*ezq.Router) { ezq.Concurrency(0) },
			"ezq: Concurrency: 0 is not positive: leave it out if the handler needs no limit of its own",
		},
		"no middleware for a handler": {
			func(*ezq.Router) { ezq.Use(nil) },
			"ezq: Use: middleware 1 of 1 is nil: leave it out",
		},
		"no middleware for a router": {
			func(r *ezq.Router) { r.Use(func(h message.HandlerFunc) message.HandlerFunc { return h }, nil) },
			"ezq: Use: middleware 2 of 2 is nil: leave it out",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			router := ezq.NewRouter(memory.New(nil), nil)
			require.PanicsWithValue(t, test.want, func() { test.mistake(router) })
		})
	}
}

// What NewRouter was given is an error of the methods that start the router, or ask about it,
// and subscribes to nothing.
func TestNewRouter_MistakeIsErrorOfRunAttachAndReady(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		router *ezq.Router
		want   string
	}{
		"no subscriber": {
			ezq.NewRouter(nil, nil),
			"ezq: NewRouter: the subscriber is nil: pass a backend, or any Watermill Subscriber",
		},
		"a nil pointer as the subscriber": {
			ezq.NewRouter((*memory.Broker)(nil), nil),
			"ezq: NewRouter: the subscriber is nil: pass a backend, or any Watermill Subscriber",
		},
		"a negative concurrency": {
			router(ezq.Config{Concurrency: -1}),
			"ezq: NewRouter: Config.Concurrency is -1: use 1 to 1048576, or 0 for the default of 10",
		},
		"an absurd concurrency": {
			router(ezq.Config{Concurrency: math.MaxInt32}),
			"ezq: NewRouter: Config.Concurrency is 2147483647: use 1 to 1048576, or 0 for the default of 10",
		},
		"a negative concurrency of a topic": {
			router(ezq.Config{Topics: map[string]ezq.TopicConfig{"mail": {Concurrency: -2}}}),
			`ezq: NewRouter: Config.Topics["mail"].Concurrency is -2: use 1 to 1048576, or 0 for that of Config.Concurrency`,
		},
		"a negative drain timeout": {
			router(ezq.Config{DrainTimeout: -time.Second}),
			"ezq: NewRouter: Config.DrainTimeout is -1s: use a positive duration, or 0 for the default of 10s",
		},
		"a negative time for unknown events": {
			router(ezq.Config{UnknownFor: -time.Second}),
			"ezq: NewRouter: Config.UnknownFor is -1s: use a positive duration, 1 for at once, or 0 for the default of 24h0m0s",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle(test.router)
			test.router.Use(middleware.Retry{}.Middleware)
			w, err := message.NewRouter(message.RouterConfig{}, nil)
			require.NoError(t, err)
			for _, err := range []error{test.router.Ready(), test.router.Attach(w), test.router.Run(t.Context()), test.router.Run(t.Context())} {
				require.EqualError(t, err, test.want)
				require.ErrorIs(t, err, ezq.ErrInvalidConfig)
			}
			require.Empty(t, w.Handlers())
			require.NoError(t, test.router.Pause("ezq"))
			require.NoError(t, test.router.Resume("ezq"))
			require.Len(t, test.router.Stats(), 1)
		})
	}
}

// router returns a router whose backend says so if it is subscribed to.
func router(c ezq.Config) *ezq.Router {
	return ezq.NewRouter(refusing{}, &c)
}

type refusing struct{ message.Subscriber }

func (refusing) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return nil, errors.New("a router that cannot be used has subscribed")
}

// A policy that cannot be used is a mistake where it is given, whichever way, and before any
// handler is there.
func TestUse_PanicsOnWrongPolicy(t *testing.T) {
	t.Parallel()
	makesNil := func(message.HandlerFunc) message.HandlerFunc { return nil }
	for want, wrong := range map[string]message.HandlerMiddleware{
		"middleware: Retry.Attempts is -1: use a positive value, or 0 for the default":                middleware.Retry{Attempts: -1}.Middleware,
		"middleware: Timeout.After is -1ns: use a positive value, or 0 for the default":               middleware.Timeout{After: -1}.Middleware,
		"middleware: Throttle.Count is -1: use a positive value, or 0 for the default":                middleware.Throttle{Count: -1}.Middleware,
		"middleware: Deduplicate.Window is -1ns: use a positive value, or 0 for the default":          middleware.Deduplicate{Window: -1}.Middleware,
		"middleware: Poison.MaxDeliveries is -1: use a positive value, or 0 for the default":          middleware.Poison{MaxDeliveries: -1}.Middleware,
		"ezq: Use: middleware 1 of 1 returns a nil handler: have it return the one that it was given": makesNil,
	} {
		require.PanicsWithValue(t, want, func() { ezq.NewRouter(memory.New(nil), nil).Use(wrong) })
		require.PanicsWithValue(t, want, func() { ezq.Use(wrong) })
	}
}

// A middleware is called by Use, and once for each handler: each has its own.
func TestUse_CallsMiddlewareOnceMoreThanThereAreHandlers(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		calls, wrapped := 0, map[string]int{}
		router := newRouter(broker, ezq.Config{})
		router.Use(func(next message.HandlerFunc) message.HandlerFunc {
			calls++
			own := calls
			return func(msg *message.Message) ([]*message.Message, error) {
				wrapped[ezq.MetaFromContext(msg.Context()).Event] = own
				return next(msg)
			}
		})
		require.Equal(t, 1, calls)
		handle(router)
		ezq.Handle(router, ignore[mailDue])
		require.Equal(t, 1, calls)
		publish(t, broker, orderPlaced{1})
		publish(t, broker, mailDue{})
		runFor(t, router, time.Second)
		require.Equal(t, 4, calls, "by Use, for two handlers, and for unknown events")
		require.NotEqual(t, wrapped["OrderPlaced"], wrapped["MailDue"])
		require.NotContains(t, []int{wrapped["OrderPlaced"], wrapped["MailDue"]}, 1, "what Use has made handles nothing")
	})
}

// A middleware that can be called only once is an error, and no panic, of Run.
func TestRun_ReturnsPanicOfMiddleware(t *testing.T) {
	t.Parallel()
	router := router(ezq.Config{})
	router.Use(panicsAtSecondCall())
	handle(router)
	err := router.Run(t.Context())
	require.EqualError(t, err, "ezq: a middleware panicked when it was called again: registered twice: "+
		"it is called by Use and for each handler, so let it begin nothing that can be begun only once")
	require.ErrorIs(t, err, ezq.ErrInvalidConfig)
	var panicked *ezq.PanicError
	require.ErrorAs(t, err, &panicked)
	require.Contains(t, string(panicked.Stack), "wiring_test.go")
}

func TestHandleBatch_PanicsOnWiringMistake(t *testing.T) {
	t.Parallel()
	for want, mistake := range map[string]func(r *ezq.Router){
		"ezq: Size: 0 is not positive: leave it out for the default of 100":                      func(*ezq.Router) { ezq.Size(0) },
		"ezq: Linger: -1s is negative: use 0 not to wait, or leave it out for the default of 1s": func(*ezq.Router) { ezq.Linger(-time.Second) },
		"ezq: HandleBatch: the handler of OrderPlaced is nil: pass a function": func(r *ezq.Router) {
			ezq.HandleBatch[orderPlaced](r, nil)
		},
		"ezq: HandleBatch: EZQEndEvent stops the router and is in no batch: use Handle": func(r *ezq.Router) {
			ezq.HandleBatch(r, ignoreAll[ezq.EndEvent])
		},
	} {
		require.PanicsWithValue(t, want, func() { mistake(ezq.NewRouter(memory.New(nil), nil)) })
	}
}

// What looks like a mistake, and is none.
func TestHandle_AcceptsDistinguishableHandlers(t *testing.T) {
	t.Parallel()
	router := ezq.NewRouter(memory.New(nil), &ezq.Config{Concurrency: 1 << 20})
	handle(router, ezq.Name("first"))
	handle(router, ezq.Name("second"))
	handle(router, ezq.Topic("other"))
	handle(router, ezq.Topic("a third"), ezq.Alias("OrderPlaced", "OldName", "OldName"))
	ezq.Handle(router, ignore[mailDue])
	ezq.Handle(router, ignore[*ezq.EndEvent])
}

func TestRouter_RunsOnce(t *testing.T) {
	bubble(t, func(t *testing.T, broker *memory.Broker) {
		router := newRouter(broker, ezq.Config{})
		require.EqualError(t, router.Run(t.Context()), "ezq: the router has no handlers: add one with Handle")
		handle(router)
		publish(t, broker, ezq.EndEvent{})
		require.NoError(t, router.Run(t.Context()))
		require.EqualError(t, router.Run(t.Context()), "ezq: the router has been started already: make a new one for each Run")
		require.PanicsWithValue(t, "ezq: Handle: the router has been started: call Handle before Run, or make a new router", func() {
			handle(router, ezq.Topic("other"))
		})
		require.PanicsWithValue(t, "ezq: Use: the router has been started: call Use before Run, or make a new router", func() { router.Use() })
	})
}

// A start that has failed is what Ready tells of, until another one succeeds.
func TestReady_TellsWhyRouterHasNotStarted(t *testing.T) {
	t.Parallel()
	addLater := func(r *ezq.Router) { handle(r, ezq.Topic("mail")) }
	for name, test := range map[string]struct {
		config  ezq.Config
		mistake func(r *ezq.Router)
		mend    func(r *ezq.Router) // nil if that is not possible
		want    string
	}{
		"a configured topic has no handler": {
			config: ezq.Config{Topics: map[string]ezq.TopicConfig{"mail": {Concurrency: 1}}},
			mend:   addLater, want: `ezq: Config.Topics: topic "mail" has no handler: check the name`,
		},
		"an ignored topic has no handler": {
			mistake: func(r *ezq.Router) { r.Ignore("mail", "Sent") },
			mend:    addLater, want: `ezq: Ignore: topic "mail" has no handler: check the name`,
		},
		"an ignored event has a handler": {
			mistake: func(r *ezq.Router) { r.Ignore("ezq", "OrderPlaced") },
			want:    `ezq: Ignore has event "OrderPlaced" on topic "ezq", which has a handler: remove one of the two`,
		},
		"a middleware panics at the start": {
			mistake: func(r *ezq.Router) { r.Use(panicsAtSecondCall()) },
			want: "ezq: a middleware panicked when it was called again: registered twice: " +
				"it is called by Use and for each handler, so let it begin nothing that can be begun only once",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := memory.New(nil)
			router := ezq.NewRouter(broker, &test.config)
			handle(router)
			if test.mistake != nil {
				test.mistake(router)
			}
			require.EqualError(t, router.Ready(), "ezq: the router has not been started")
			w, err := message.NewRouter(message.RouterConfig{}, nil)
			require.NoError(t, err)
			for _, err := range []error{router.Run(t.Context()), router.Ready(), router.Attach(w), router.Ready(), router.Run(t.Context())} {
				require.EqualError(t, err, test.want)
				require.ErrorIs(t, err, ezq.ErrInvalidConfig)
			}
			if test.mend == nil {
				return
			}
			test.mend(router)
			require.ErrorIs(t, router.Ready(), ezq.ErrInvalidConfig, "until it is started")
			publish(t, broker, ezq.EndEvent{})
			require.NoError(t, router.Run(t.Context()))
			require.EqualError(t, router.Ready(), "ezq: the router has stopped")
		})
	}
}

// panicsAtSecondCall returns a middleware that can be given to Use and to no handler.
func panicsAtSecondCall() message.HandlerMiddleware {
	calls := 0
	return func(next message.HandlerFunc) message.HandlerFunc {
		if calls++; calls > 1 {
			panic("registered twice")
		}
		return next
	}
}

func TestConfig_RefusesTopicWithoutHandlers(t *testing.T) {
	t.Parallel()
	router := ezq.NewRouter(memory.New(nil), &ezq.Config{Topics: map[string]ezq.TopicConfig{"ezp": {Concurrency: 1}}})
	handle(router)
	err := router.Run(t.Context())
	require.EqualError(t, err, `ezq: Config.Topics: topic "ezp" has no handler: check the name`)
	require.ErrorIs(t, err, ezq.ErrInvalidConfig)
}
