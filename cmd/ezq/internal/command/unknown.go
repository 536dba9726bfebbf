package command

import (
	"errors"

	"github.com/ezq-go/ezq/backend"
)

// unknownOf returns how many messages a change is about at most whose answer is lost, or 0 if there is an answer.
func unknownOf(err error) int {
	if unknown, ok := errors.AsType[*backend.UnknownOutcomeError](err); ok {
		return unknown.Most
	}
	return 0
}

// printUnknown says how many more messages may have been changed than those that were counted.
func printUnknown(s *session, err error, changed string) {
	if n := unknownOf(err); n > 0 {
		s.printf("%d more may have been %s: the answer is lost\n", n, changed)
	}
}
