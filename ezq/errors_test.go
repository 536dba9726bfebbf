package ezq_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

func TestError_NamesProblemPlaceAndRemedy(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		`ezq: the subscription to "orders" ended by itself: was the queue closed?`:                                         &ezq.SubscriptionError{Topic: "orders"},
		`ezq: the subscription to "orders" failed: EOF`:                                                                    &ezq.SubscriptionError{Topic: "orders", Err: io.EOF},
		`ezq: decode UserCreated: a decoder failed with a *errors.errorString, not shown because it may quote the payload`: &ezq.DecodeError{Event: "UserCreated", Err: io.EOF},
		`ezq: no handler for event "A" on topic "orders": add one with Handle, or name it with Router.Ignore`:              &ezq.UnknownEventError{Topic: "orders", Event: "A"},
		`ezq: a message on topic "orders" names no event, so there is no handler for it: ` +
			`publish it with a _type, or give its kind a topic of its own`: &ezq.UnknownEventError{Topic: "orders"},
		`ezq: handler panicked: EOF`:            &ezq.PanicError{Value: io.EOF, Stack: []byte("stack")},
		`ezq: handler panicked: 3`:              &ezq.PanicError{Value: 3},
		`event type T is odd: make it straight`: &ezq.EventTypeError{Type: "T", Reason: "is odd", Remedy: "make it straight"},
	} {
		require.EqualError(t, err, want)
	}
}

type withdrawn struct{ Reason string }

func (*withdrawn) UnmarshalText(text []byte) error { return fmt.Errorf("no withdrawal: %s", text) }

func TestDecodeError_DoesNotQuotePayload(t *testing.T) {
	t.Parallel()
	type card struct {
		Number int32
		Valid  time.Time
		Once   withdrawn
		Limits map[int8]int
	}
	for payload, want := range map[string]string{
		`{"Number":4111111111111111}`:       "json: cannot unmarshal number into card.Number of type int32",
		`{"Number":"4111111111111111"}`:     "json: cannot unmarshal string into card.Number of type int32",
		`{"Limits":{"4111111111111111":1}}`: "json: cannot unmarshal number into card.Limits of type int8",
		`{"Valid":"4111111111111111"}`:      "the field \"Valid\" is not a time in RFC 3339 with a zone",
		`{"Once":"4111111111111111"}`:       "a decoder failed with a *errors.errorString, not shown because it may quote the payload",
		`{"Number":1}4111111111111111`:      "invalid character '4' after top-level value",
		`["4111111111111111"]`:              "json: cannot unmarshal array into a value of type ezq_test.card",
	} {
		err := ezq.Marshaler{}.Unmarshal(message.NewMessage("1", []byte(payload)), &card{})
		require.ErrorContains(t, err, want)
		asJSON, failure := json.Marshal(err)
		require.NoError(t, failure)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v %s", err, err, err, asJSON), "41111111")
	}
	var parse *time.ParseError
	err := ezq.Marshaler{}.Unmarshal(message.NewMessage("1", []byte(`{"Valid":"4111111111111111"}`)), &card{})
	require.ErrorAs(t, err, &parse)
	require.ErrorContains(t, parse, "4111111111111111", "errors.As finds it")
}

func TestError_UnwrapsToCause(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&ezq.SubscriptionError{Err: io.EOF}, &ezq.DecodeError{Err: io.EOF}, &ezq.PanicError{Value: io.EOF},
	} {
		require.ErrorIs(t, err, io.EOF)
	}
	require.NoError(t, errors.Unwrap(&ezq.PanicError{Value: "text"}))
	require.NoError(t, errors.Unwrap(&ezq.SubscriptionError{}))
}

func TestErrors_MatchThoseOfBackends(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, backend.ErrInterrupted, ezq.ErrInterrupted)
	require.ErrorIs(t, backend.ErrLeaseLost, ezq.ErrLeaseLost)
}
