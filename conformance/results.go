package conformance

import "time"

// Outcome is what became of a case.
type Outcome string

// The outcomes. A case that is not promised is tried all the same, as far as that is
// possible.
const (
	Passed  Outcome = "pass"                   // what is promised holds
	Failed  Outcome = "fail"                   // what is promised does not hold
	Skipped Outcome = "not promised"           // and it does not hold
	Bonus   Outcome = "not promised but works" // it holds, at least this time
)

// Result is the outcome of one case.
type Result struct {
	Theme    string   `json:"theme"`
	Name     string   `json:"name"`
	Sentence string   `json:"sentence"`
	Needs    []string `json:"needs,omitempty"`
	Outcome  Outcome  `json:"outcome"`

	// Failure says what was seen instead, also if the case is not promised.
	Failure string        `json:"failure,omitempty"`
	Took    time.Duration `json:"-"`
}

// Results are the outcomes of the suite, in its order.
type Results []Result

// Failed returns those that failed.
func (rs Results) Failed() (failed Results) {
	for _, r := range rs {
		if r.Outcome == Failed {
			failed = append(failed, r)
		}
	}
	return failed
}

// Count returns how many cases had the outcome.
func (rs Results) Count(outcome Outcome) (n int) {
	for _, r := range rs {
		if r.Outcome == outcome {
			n++
		}
	}
	return n
}
