package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.Everywhere(t, `charging the slow card, after 0 failures
charging the slow card, after 1 failures
charging the slow card, after 2 failures
charged
charging the expired card, after 0 failures
dead letter: the expired card: the card has expired
`)
}
