package backend_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

func TestSelection_RefusesWhatChoosesNothing(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]backend.Selection{
		"nothing":                  {},
		"nothing but a limit":      {Limit: 1},
		"a value without a header": {ID: "a", Value: "b"},
		"a reserved header":        {Header: "ezq_uuid", Value: "a"},
		"a negative limit":         {ID: "a", Limit: -1},
		"an ID with NUL":           {ID: "a\x00"},
		"a key that is not UTF-8":  {UniqueKey: "\xff"},
		"a field without a value":  {Field: "order.id"},
		"a value without a field":  {Equals: 7},
		"a name that is empty":     {Field: "order..id", Equals: 7},
		"a point at the end":       {Field: "order.", Equals: 7},
		"too many names":           {Field: "a" + strings.Repeat(".a", 16), Equals: 7},
		"a field with NUL":         {Field: "a\x00", Equals: 7},
		"a value with NUL":         {Field: "a", Equals: "\x00"},
		"a value that is endless":  {Field: "a", Equals: strings.Repeat("a", backend.MaxHeaders+1)},
		"a value that is null":     {Field: "a", Equals: (*int)(nil)},
		"a value that is a list":   {Field: "a", Equals: []int{7}},
		"a value that is a struct": {Field: "a", Equals: struct{}{}},
		"a value without JSON":     {Field: "a", Equals: math.NaN()},
		"a number that is endless": {Field: "a", Equals: json.Number("1e1000000000")},
		"a number of many digits":  {Field: "a", Equals: json.Number(strings.Repeat("7", 1001))},
		"an endless value":         {Header: "a", Value: strings.Repeat("a", backend.MaxHeaders+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorAs(t, s.Check(), new(*backend.RefusedError))
		})
	}
	for _, s := range []backend.Selection{{ID: "a"}, {UniqueKey: "k"}, {Event: "E"}, {Header: "h"}, {Header: "h", Value: "v", Limit: 7}, {Field: "a", Equals: uint8(7)}} {
		require.NoError(t, s.Check())
	}
}

func TestCheckWaiting_AdvisesWhatItTakes(t *testing.T) {
	t.Parallel()
	for _, s := range []backend.Selection{{}, {Event: "E"}, {ID: "a", Limit: 1}, {ID: "a", Field: "a", Equals: 1}, {ID: "a", Equals: []int{7}}} {
		err := s.CheckWaiting()
		require.ErrorAs(t, err, new(*backend.RefusedError))
		require.NotContains(t, err.Error(), "set the ID, the UniqueKey, the Event")
	}
	require.NoError(t, backend.Selection{ID: "a", UniqueKey: "k"}.CheckWaiting())
}

// What a field is equal to is encoded as a field of an event is.
func TestBodyField_IsEncodedLikeAnEvent(t *testing.T) {
	t.Parallel()
	type orderID int64
	for want, equals := range map[string]any{
		`7`: orderID(7), `"7"`: "7", `true`: true, `0.5`: 0.5, `1.50`: json.Number("1.50"), "\"\ufffd\"": json.RawMessage(`"\ud83d"`), `"2026-01-02T03:04:05Z"`: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		field, err := backend.NewBodyField("order.id", equals)
		require.NoError(t, err)
		require.Equal(t, &backend.BodyField{Path: []string{"order", "id"}, JSON: want}, field)
	}
	field, err := backend.NewBodyField("", nil)
	require.NoError(t, err)
	require.Nil(t, field)
}

func TestString_NamesEachValue(t *testing.T) {
	t.Parallel()
	require.Equal(t, "dead letters", backend.InDeadLetters.String())
	require.Equal(t, "place 9", backend.Place(9).String())
	require.Equal(t, "archived", backend.StateArchived.String())
	require.Equal(t, "state 9", backend.State(9).String())
	require.Equal(t, "replaced", backend.PublishReplaced.String())
	require.Equal(t, "early", backend.TickEarly.String())
}
