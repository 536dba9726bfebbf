package conformance

import "testing"

// Judge tries one case in virtual time, without failing the test.
func Judge(t *testing.T, open Open, promised Promises, c Case, options ...Option) Result {
	t.Helper()
	return newSuite(open, promised, append(options, VirtualTime())).inBubble(t, c)
}
