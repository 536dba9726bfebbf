package backend_test

import (
	"strings"
	"testing"

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
		"an endless value":         {Header: "a", Value: strings.Repeat("a", backend.MaxHeaders+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorAs(t, s.Check(), new(*backend.RefusedError))
		})
	}
	for _, s := range []backend.Selection{{ID: "a"}, {UniqueKey: "k"}, {Event: "E"}, {Header: "h"}, {Header: "h", Value: "v", Limit: 7}} {
		require.NoError(t, s.Check())
	}
}

func TestCheckWaiting_AdvisesWhatItTakes(t *testing.T) {
	t.Parallel()
	for _, s := range []backend.Selection{{}, {Event: "E"}, {ID: "a", Limit: 1}} {
		err := s.CheckWaiting()
		require.ErrorAs(t, err, new(*backend.RefusedError))
		require.NotContains(t, err.Error(), "set the ID, the UniqueKey, the Event")
	}
	require.NoError(t, backend.Selection{ID: "a", UniqueKey: "k"}.CheckWaiting())
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
