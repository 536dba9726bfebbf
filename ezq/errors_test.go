package ezq_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

func TestAnErrorSaysWhatAndWhereAndTheRemedy(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		`ezq: the subscription to "orders" ended by itself: was the queue closed?`:                          &ezq.SubscriptionError{Topic: "orders"},
		`ezq: subscribe to "orders": EOF`:                                                                   &ezq.SubscriptionError{Topic: "orders", Err: io.EOF},
		`ezq: decode UserCreated: EOF`:                                                                      &ezq.DecodeError{Event: "UserCreated", Err: io.EOF},
		`ezq: no handler for event "A" on topic "orders": add one with Handle, or set Config.IgnoreUnknown`: &ezq.UnknownEventError{Topic: "orders", Event: "A"},
		`ezq: a message on topic "orders" names no event, so there is no handler for it: ` +
			`add one with Handle, or set Config.IgnoreUnknown`: &ezq.UnknownEventError{Topic: "orders"},
		`ezq: handler panicked: EOF`:            &ezq.PanicError{Value: io.EOF, Stack: []byte("stack")},
		`ezq: handler panicked: 3`:              &ezq.PanicError{Value: 3},
		`event type T is odd: make it straight`: &ezq.EventTypeError{Type: "T", Reason: "is odd", Remedy: "make it straight"},
	} {
		require.EqualError(t, err, want)
	}
}

func TestAnErrorLeadsToItsCause(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&ezq.SubscriptionError{Err: io.EOF}, &ezq.DecodeError{Err: io.EOF}, &ezq.PanicError{Value: io.EOF},
	} {
		require.ErrorIs(t, err, io.EOF)
	}
	require.NoError(t, errors.Unwrap(&ezq.PanicError{Value: "text"}))
	require.NoError(t, errors.Unwrap(&ezq.SubscriptionError{}))
}

func TestBackendsAndRoutersMeanTheSameErrors(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, backend.ErrInterrupted, ezq.ErrInterrupted)
	require.ErrorIs(t, backend.ErrLeaseLost, ezq.ErrLeaseLost)
}
