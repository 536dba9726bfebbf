package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.Everywhere(t, `the backup begins
the disk is full
the backup ends: ezq: interrupted
interrupted; now there is a new disk
the backup is done, after 0 failures
`)
}
