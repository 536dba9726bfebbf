package backend_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
)

// JSON that holds other JSON is written compactly, so the payload that is read is another text.
func TestFoundDeadLetter_KeepsTheVersionThatWasWritten(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]string{
		"JSON":           `{"_type": "OrderPaid",  "order": 7}`,
		"compact JSON":   `{"_type":"OrderPaid","order":7}`,
		"JSON with HTML": `{"text": "<b>"}`,
		"what is none":   "\x00\x01",
		"nothing":        "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := backend.FoundDeadLetter{Row: 17, Payload: []byte(payload)}
			text, err := json.Marshal(found)
			require.NoError(t, err)
			var read backend.FoundDeadLetter
			require.NoError(t, json.Unmarshal(text, &read))
			require.Equal(t, found.Version(), read.Version())
			again, err := json.Marshal(read)
			require.NoError(t, err)
			require.JSONEq(t, string(text), string(again))

			edit := backend.DeadLetterEdit{Row: 17, Version: read.Version(), Payload: []byte(`{"order": 8}`), By: "ada"}
			edit.Apply(&read, time.Now())
			require.Equal(t, backend.FoundDeadLetter{Payload: edit.Payload}.Version(), read.Version(), "of what is there now")
		})
	}
	var old backend.FoundDeadLetter
	require.NoError(t, json.Unmarshal([]byte(`{"row": 17, "payload": {}}`), &old))
	require.Equal(t, backend.FoundDeadLetter{Payload: []byte("{}")}.Version(), old.Version(), "of what says none")
}
