package ezqtest

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/ezq-go/ezq/backend"
)

// ReadDeadLetter reads a dead letter from a file that has it as JSON: as "ezq dead show TOPIC --row N"
// shows it, or as json.Marshal writes a [backend.FoundDeadLetter]. If it cannot, the test fails.
func ReadDeadLetter(tb testing.TB, file string) backend.FoundDeadLetter {
	tb.Helper()
	text, err := os.ReadFile(file) //nolint:gosec // the test names it
	if err != nil {
		tb.Fatal("ezqtest:", err)
	}
	var d backend.FoundDeadLetter
	if err := json.Unmarshal(text, &d); err != nil {
		tb.Fatalf("ezqtest: %s is not one dead letter as JSON, as ezq dead show TOPIC --row N shows it: %v", file, err)
	}
	return d
}
