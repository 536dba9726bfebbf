package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.OnPostgreSQL(t, `billing has order 1 (orders.paid)
billing has order 2 (orders.paid)
shipping has order 1 (orders.paid)
shipping has order 2 (orders.paid)
audit has order 1 (orders.refunded)
audit has order 1 (orders.paid)
audit has order 2 (orders.paid)
`)
}

func TestExample_NamesMissingDatabase(t *testing.T) {
	t.Parallel()
	exampletest.NeedsPostgreSQL(t)
}
