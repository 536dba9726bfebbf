package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.OnPostgreSQL(t, `without an address: a user needs an address
welcome, ada@example.com
`)
}

func TestExample_NamesMissingDatabase(t *testing.T) {
	t.Parallel()
	exampletest.NeedsPostgreSQL(t)
}
