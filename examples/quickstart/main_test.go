package main

import (
	"testing"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func Example() {
	main()
	// Output:
	// welcome, ada@example.com
	// welcome, grace@example.com
	// all events are handled
}

func TestExample_RunsOnPGMQ(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	for range 2 { // the second run finds nothing left of the first
		if err := run(t.Context(), database); err != nil {
			t.Fatal(err)
		}
	}
}
