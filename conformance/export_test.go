package conformance

import "testing"

// RunCase tries one case in virtual time, without failing the test.
func RunCase(t *testing.T, open Open, promised Promises, c Case, options ...Option) Result {
	t.Helper()
	return newSuite(open, promised, append(options, VirtualTime())).inBubble(t, c)
}

// GoroutinesOf starts n goroutines of a case, which end with done, and returns what is found of them.
func GoroutinesOf(id string, n int, done <-chan struct{}) []string {
	started := make(chan struct{})
	labelled(id, func() {
		for range n {
			go func() {
				started <- struct{}{}
				<-done
			}()
		}
	})
	for range n {
		<-started
	}
	return goroutinesOf(id)
}
