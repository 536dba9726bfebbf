package middleware

import (
	"errors"
	"fmt"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// mustNotBeNegative panics if a field of a policy is: a mistake in the program, which
// is to show when the program starts.
func mustNotBeNegative[N int | time.Duration](field string, value N) {
	if value < 0 {
		panic(fmt.Sprintf("middleware: %s is %v: use a positive value, or 0 for the default", field, value))
	}
}

// mustBeATopic panics if a field of a policy is set to what cannot be the name of a topic.
func mustBeATopic(field, topic string) {
	if refused, ok := errors.AsType[*backend.RefusedError](backend.CheckTopic(topic)); ok && topic != "" {
		panic(fmt.Sprintf("middleware: %s %q: %s: %s", field, excerpt.Of(topic), refused.Reason, refused.Remedy))
	}
}
