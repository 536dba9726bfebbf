package middleware

import (
	"fmt"
	"time"
)

// mustNotBeNegative panics if a field of a policy is: a mistake in the program, which
// is to show when the program starts.
func mustNotBeNegative[N int | time.Duration](field string, value N) {
	if value < 0 {
		panic(fmt.Sprintf("middleware: %s is %v: use a positive value, or 0 for the default", field, value))
	}
}
