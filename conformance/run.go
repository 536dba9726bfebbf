package conformance

import (
	"context"
	"testing"
)

// Run is the test of a backend: every case is a subtest, which fails with what was
// seen instead of what was promised. A case that is not promised is tried too, and is
// skipped unless it works. The results come back when all subtests are done.
func Run(t *testing.T, open Open, promised Promises, options ...Option) Results {
	t.Helper()
	s := newSuite(open, promised, options)
	results := make(Results, len(s.cases))
	t.Run("cases", func(t *testing.T) {
		for i, c := range s.cases {
			results[i] = c.result(promised, "it was not run", 0)
			t.Run(c.Title(), func(t *testing.T) {
				if s.virtual {
					t.Parallel()
					results[i] = s.inBubble(t, c)
				} else {
					// All cases are under way before the first of them is waited for:
					// they mostly wait, and there are more of them than processors.
					result := s.start(t.Context(), c)
					t.Parallel()
					results[i] = <-result
				}
				reportResult(t, results[i])
			})
		}
	})
	return results
}

// reportResult tells the test of a case how that went.
func reportResult(t *testing.T, r Result) {
	t.Helper()
	if t.Log(r.Sentence); r.Failure != "" && r.Outcome != Skipped {
		t.Log("instead:", r.Failure)
	}
	switch r.Outcome {
	case Failed:
		t.Fail()
	case Skipped:
		t.Skipf("not promised: %v (%s)", r.Needs, r.Failure)
	case Bonus:
		t.Logf("not promised, but it works: %v", r.Needs)
	}
}

// Check tries a backend and returns what it has found. It runs in real time.
func Check(ctx context.Context, open Open, promised Promises, options ...Option) Results {
	s := newSuite(open, promised, options)
	running := make([]<-chan Result, len(s.cases))
	for i, c := range s.cases {
		running[i] = s.start(ctx, c)
	}
	results := make(Results, len(s.cases))
	for i, result := range running {
		results[i] = <-result
	}
	return results
}
