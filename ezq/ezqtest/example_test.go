package ezqtest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/middleware"
)

type (
	signedUp   struct{ Email string }
	mailWanted struct{ To string }
)

// accounts is the program that is tested: it builds its router for a queue.
func accounts(client backend.Backend) *ezq.Router {
	router := ezq.NewRouter(client, nil)
	ezq.Handle(router, func(ctx context.Context, e signedUp) error {
		if err := ezq.Publish(ctx, client, mailWanted{To: e.Email}); err != nil {
			return err
		}
		return ezq.Publish(ctx, client, mailWanted{To: e.Email}, ezq.Delay(72*time.Hour)) // a reminder
	})
	ezq.Handle(router, func(context.Context, mailWanted) error { return nil })
	return router
}

// A whole flow, over three days.
func TestSignUp_IsFollowedByReminder(t *testing.T) {
	t.Parallel()
	ezqtest.Run(t, accounts, func(f *ezqtest.Flow) {
		f.Publish(signedUp{Email: "ada@example.com"})
		f.AwaitIdle()
		ezqtest.Handled[mailWanted](f).Equal(mailWanted{To: "ada@example.com"})

		f.Advance(72 * time.Hour)
		ezqtest.Handled[mailWanted](f).Times(2)
	})
}

// One handler alone, with its middleware, at its last try.
func TestMail_WhenUnsendableBecomesDeadLetter(t *testing.T) {
	t.Parallel()
	send := func(context.Context, mailWanted) error { return errors.New("no such address") }
	policy := ezq.Use(middleware.Retry{Attempts: 5}.Middleware, middleware.Poison{}.Middleware)

	outcome := ezqtest.Deliver(t, send, mailWanted{To: "nowhere"}, ezqtest.Delivery{
		Failures: 4,
		Options:  []ezq.HandleOption{policy},
	})
	if outcome.DeadLetter != "ezq_dead" || outcome.Reason != "no such address" {
		t.Errorf("%+v", outcome)
	}
}

// Handlers that keep what they have seen by its ID can be repeated.
func TestAccounts_AreIdempotent(t *testing.T) {
	t.Parallel()
	build := func(client backend.Backend) (*ezq.Router, func() map[string]bool) {
		seen := map[string]bool{}
		router := ezq.NewRouter(client, nil)
		ezq.Handle(router, func(_ context.Context, e signedUp) error {
			seen[e.Email] = true
			return nil
		})
		return router, func() map[string]bool { return seen }
	}
	ezqtest.CheckIdempotent(t, build, signedUp{Email: "ada@example.com"}, signedUp{Email: "grace@example.com"})
}
