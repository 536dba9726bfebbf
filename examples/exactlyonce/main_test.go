package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.OnPostgreSQL(t, `a failure after the work: all of it is rolled back
the balance is 100
`)
}

func TestExample_NamesMissingDatabase(t *testing.T) {
	t.Parallel()
	exampletest.NeedsPostgreSQL(t)
}
