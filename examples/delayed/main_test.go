package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.Everywhere(t, `you are invited
buy a present
the party begins
`)
}
