package main

import (
	"testing"

	"github.com/ezq-go/ezq/examples/internal/exampletest"
)

func TestMain(m *testing.M) { exampletest.Main(m, main) }

func TestExample_PrintsItsOutput(t *testing.T) {
	t.Parallel()
	exampletest.Everywhere(t, `storing [{19} {20} {-300}]
impossible: -300
storing [{21} {22}]
4 stored, 1 given up
`)
}
