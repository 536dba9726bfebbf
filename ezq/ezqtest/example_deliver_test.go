package ezqtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/ezqtest"
	"github.com/ezq-go/ezq/middleware"
)

// tb stands in for the t of a test, which an example does not have.
type tb struct{ testing.TB }

func (tb) Helper()                  {}
func (tb) Context() context.Context { return context.Background() }

// A handler, with its middleware, at its first try and at its last one.
func ExampleDeliver() {
	var t tb // in a test: its *testing.T
	send := func(context.Context, mailWanted) error { return errors.New("no such address") }
	policy := ezq.Use(
		middleware.Retry{Attempts: 5, Delay: time.Minute}.Middleware,
		middleware.Poison{}.Middleware)

	for _, failures := range []int{0, 4} {
		outcome := ezqtest.Deliver(t, send, mailWanted{To: "nowhere"}, ezqtest.Delivery{
			Failures: failures,
			Options:  []ezq.HandleOption{policy},
		})
		if outcome.DeadLetter != "" {
			fmt.Println("given up:", outcome.DeadLetter, "because of:", outcome.Reason)
		} else {
			fmt.Println("tried again in about", outcome.RetryAfter.Round(time.Minute))
		}
	}
	// Output:
	// tried again in about 1m0s
	// given up: ezq_dead because of: no such address
}
