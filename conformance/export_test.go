package conformance

import "testing"

// RunCase tries one case in virtual time, without failing the test.
func RunCase(t *testing.T, open Open, promised Promises, c Case, options ...Option) Result {
	t.Helper()
	return newSuite(open, promised, append(options, VirtualTime())).inBubble(t, c)
}
