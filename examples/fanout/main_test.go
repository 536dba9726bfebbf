package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.OnPostgreSQL(t, `billing has order 1
billing has order 2
shipping has order 1
shipping has order 2
`)
}

func TestExample_NamesMissingDatabase(t *testing.T) {
	t.Parallel()
	exampletest.NeedsPostgreSQL(t)
}
