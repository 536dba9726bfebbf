package ezqtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/ezq"
)

type (
	paid     struct{ Order int }
	invoiced struct{ Order int }
	mailed   struct{ Order int }
)

func shop(client backend.Backend) *ezq.Router {
	router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(slog.DiscardHandler), Concurrency: 1})
	ezq.Handle(router, func(ctx context.Context, e paid) error {
		if e.Order == 13 {
			return errors.New("bad luck")
		}
		if e.Order == 99 {
			<-ctx.Done()
			return ctx.Err()
		}
		return ezq.Publish(ctx, client, invoiced(e))
	})
	ezq.Handle(router, func(ctx context.Context, e invoiced) error {
		return ezq.Publish(ctx, client, mailed(e), ezq.Topic("mail"))
	})
	return router
}

func TestFailure_DescribesActualEvents(t *testing.T) {
	for name, test := range map[string]struct {
		body func(f *Flow)
		want string
	}{
		"a dead letter that was cut": {
			func(f *Flow) { f.Redrive(backend.FoundDeadLetter{Topic: "ezq", Err: errors.New("it is cut")}) },
			"ezqtest: the dead letter cannot be read: it is cut",
		},
		"a stray": {
			func(f *Flow) { f.Redrive(backend.FoundDeadLetter{}) },
			"ezqtest: the dead letter names no topic that it came from",
		},
		"a dead letter of another program": {
			func(f *Flow) { f.Redrive(backend.FoundDeadLetter{Topic: "orders"}) },
			`ezqtest: the dead letter came from the topic "orders", to which the router does not subscribe`,
		},
		"no event was published": {
			func(f *Flow) { Published[paid](f).Times(1) },
			`ezqtest: paid: published 0 times, want 1
No event was published or handled.`,
		},
		"too few events": {
			func(f *Flow) { f.Publish(paid{7}); f.AwaitIdle(); Handled[mailed](f).One() },
			`ezqtest: mailed: handled 0 times, want 1
History:
	published     {"_type":"paid","Order":7} on topic "ezq"
	published     {"_type":"invoiced","Order":7} on topic "ezq"
	handled       {"_type":"paid","Order":7} on topic "ezq"
	published     {"_type":"mailed","Order":7} on topic "mail"
	handled       {"_type":"invoiced","Order":7} on topic "ezq"
	waits         mailed on topic "mail", on which the router has no handlers`,
		},
		"a handler that fails": {
			func(f *Flow) { f.Publish(paid{13}); f.AwaitIdle(); Handled[paid](f).Times(2) },
			`ezqtest: paid: handled 0 times, want 2
History:
	published     {"_type":"paid","Order":13} on topic "ezq"
	failed        {"_type":"paid","Order":13} on topic "ezq": bad luck
	waits         paid on topic "ezq"`,
		},
		"another event": {
			func(f *Flow) { f.Publish(paid{7}); f.AwaitIdle(); Published[paid](f).Equal(paid{8}) },
			`ezqtest: paid: published event 1 differs
	want {Order:8}
	got  {Order:7}
History:
	published     {"_type":"paid","Order":7} on topic "ezq"
	published     {"_type":"invoiced","Order":7} on topic "ezq"
	handled       {"_type":"paid","Order":7} on topic "ezq"
	published     {"_type":"mailed","Order":7} on topic "mail"
	handled       {"_type":"invoiced","Order":7} on topic "ezq"
	waits         mailed on topic "mail", on which the router has no handlers`,
		},
		"a missing event": {
			func(f *Flow) { Published[paid](f).Equal(paid{8}) },
			`ezqtest: paid: published event 1 differs
	want {Order:8}
	got  none
No event was published or handled.`,
		},
		"a handler that hangs": {
			func(f *Flow) { f.Publish(paid{99}); f.AwaitIdle() },
			`ezqtest: still busy after 30m0s: paid on topic "ezq" is being handled
History:
	published     {"_type":"paid","Order":99} on topic "ezq"
	waits         paid on topic "ezq"
ezqtest: the router stopped with: ezq: handlers did not finish in time`,
		},
		"a value that is no event": {
			func(f *Flow) { f.Publish(7) },
			"ezqtest: ezq: publish an event to \"ezq\": event type int has no name of its own: declare a type for the event",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := &failureRecorder{TB: t}
				done := make(chan struct{})
				go func() { // since a failure ends its goroutine
					defer close(done)
					run(got, memory.New(nil), 30*time.Minute, shop, test.body)
				}()
				<-done
				require.Equal(t, test.want, strings.TrimSpace(got.text))
			})
		})
	}
}

// failureRecorder keeps why a test has failed.
type failureRecorder struct {
	testing.TB
	text string
}

func (l *failureRecorder) Helper() {}

func (l *failureRecorder) Errorf(format string, args ...any) {
	l.text += fmt.Sprintf("\n"+format, args...)
}

func (l *failureRecorder) Fatal(args ...any) {
	l.text = fmt.Sprintln(args...)
	runtime.Goexit()
}

func (l *failureRecorder) Fatalf(format string, args ...any) {
	l.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// A misspelt group would have none of the events that it must not have.
func TestInGroup_OfAGroupThatTheFlowDoesNotHaveFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		build := func(client backend.Backend) *ezq.Router {
			router := ezq.NewRouter(Group(client, "audit"), &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
			ezq.Handle(router, func(context.Context, paid) error { return nil })
			return router
		}
		body := func(f *Flow) {
			Handled[paid](f).InGroup("audit").Times(0)
			Handled[paid](f).InGroup("").Times(0)
			Handled[paid](f).InGroup("audti").Times(0)
		}
		got := &failureRecorder{TB: t}
		done := make(chan struct{})
		go func() { // since a failure ends its goroutine
			defer close(done)
			run(got, memory.New(nil), 30*time.Minute, build, body)
		}()
		<-done
		require.Equal(t, `ezqtest: no consumers of the flow have the group "audti": it has ["audit"]`, strings.TrimSpace(got.text))
	})
}

func TestCheckIdempotent_FindsHandlerThatIsNot(t *testing.T) {
	for name, test := range map[string]struct {
		handle func(ctx context.Context, client backend.Backend, total *int, e paid) error
		want   string
	}{
		"a handler that sets a value": {
			func(_ context.Context, _ backend.Backend, total *int, e paid) error { *total = e.Order; return nil },
			"",
		},
		"a handler that adds to a value": {
			func(_ context.Context, _ backend.Backend, total *int, e paid) error { *total += e.Order; return nil },
			"ezqtest: the handlers are not idempotent: the result differs if delivery 1 is repeated\n\tundisturbed 7\n\tdisturbed   14",
		},
		"a handler that publishes before it is done": {
			func(ctx context.Context, client backend.Backend, total *int, e paid) error {
				if *total > 0 {
					return nil
				}
				if err := ezq.Publish(ctx, client, mailed(e), ezq.Topic("mail")); err != nil {
					return err
				}
				*total = e.Order
				return nil
			},
			"",
		},
		"a handler that leaves half of its work": {
			func(ctx context.Context, client backend.Backend, total *int, e paid) error {
				if *total > 0 {
					return nil
				}
				*total = 1
				if err := ezq.Publish(ctx, client, mailed(e), ezq.Topic("mail")); err != nil {
					return err
				}
				*total = e.Order
				return nil
			},
			"ezqtest: the handlers are not idempotent: the result differs if delivery 1 crashes and is repeated\n\tundisturbed 7\n\tdisturbed   1",
		},
		"a handler that counts what it could not do": {
			func(ctx context.Context, _ backend.Backend, total *int, _ paid) error {
				if ctx.Err() != nil {
					*total--
				}
				return ctx.Err()
			},
			"ezqtest: the handlers are not idempotent: the result differs if delivery 1 loses its lease and is repeated\n\tundisturbed 0\n\tdisturbed   -1",
		},
	} {
		t.Run(name, func(t *testing.T) {
			problem := checkIdempotent(t, func(client backend.Backend) (*ezq.Router, func() int) {
				router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
				var total int
				ezq.Handle(router, func(ctx context.Context, e paid) error { return test.handle(ctx, client, &total, e) })
				return router, func() int { return total }
			}, []any{paid{7}})
			require.Equal(t, test.want, problem)
		})
	}
}

func TestCheckIdempotent_UsesTopicsOfRouter(t *testing.T) {
	for name, test := range map[string]struct {
		topics []string
		event  any
		want   string
	}{
		"the only topic is used": {
			[]string{"orders"}, paid{7}, "the handlers are not idempotent",
		},
		"the topic that the event names is used": {
			[]string{"orders", "mail"}, Event(paid{7}, ezq.Topic("mail")), "the handlers are not idempotent",
		},
		"several topics need a choice": {
			[]string{"orders", "mail"},
			paid{7},
			`event 1 of 1 reached no handler; the router has handlers on ["mail" "orders"]: name another topic with ezqtest.Event`,
		},
		"an event without a handler is an error": {
			[]string{"orders"}, invoiced{7}, "event 1 of 1 reached no handler",
		},
	} {
		t.Run(name, func(t *testing.T) {
			problem := checkIdempotent(t, func(client backend.Backend) (*ezq.Router, func() int) {
				router := ezq.NewRouter(client, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
				total := 0
				for _, topic := range test.topics {
					ezq.Handle(router, func(_ context.Context, e paid) error { total += e.Order; return nil }, ezq.Topic(topic))
				}
				return router, func() int { return total }
			}, []any{test.event})
			require.Contains(t, problem, test.want)
		})
	}
}
