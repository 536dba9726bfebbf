package contender

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMessage_IsEventOfGivenSize(t *testing.T) {
	t.Parallel()
	m := NewMaker(256).Make(1234)
	var decoded struct {
		Type string `json:"_type"`
		Event
	}
	require.NoError(t, json.Unmarshal(m.Body, &decoded))
	require.Equal(t, eventName, decoded.Type)
	require.Equal(t, Event{1234, m.Text}, decoded.Event)
	require.InDelta(t, 256, len(m.Body), 8)
}

func TestMessage_NumberIsFoundInAnyForm(t *testing.T) {
	t.Parallel()
	for body, id := range map[string]int{
		string(NewMaker(300).Make(77).Body):    77,
		`{"ID": 5, "Text": "x", "_type": "B"}`: 5, // as jsonb writes it
		`{"Text":"x","ID":0}`:                  0,
		`{"Text":"x"}`:                         -1,
		`{"ID":"five"}`:                        -1,
		``:                                     -1,
	} {
		require.Equal(t, id, idOf([]byte(body)), body)
	}
}
