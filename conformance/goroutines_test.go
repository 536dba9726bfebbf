package conformance_test

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/conformance"
)

// A profile begins with the place where most goroutines are.
func TestGoroutines_AreFoundHoweverMany(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	for _, n := range []int{1, 5000} {
		require.NotEmpty(t, conformance.GoroutinesOf(t.Name()+strconv.Itoa(n), n, done), n)
	}
}
