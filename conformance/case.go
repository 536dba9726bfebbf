package conformance

import "time"

// Case is one promise, and the test of it.
type Case struct {
	Theme    string // what it is about, in a word or two
	Name     string // short, and unique in its theme
	Sentence string // what holds

	needs need
	test  func(*harness)
}

// Title is how a test or a table calls the case.
func (c Case) Title() string { return c.Theme + "/" + c.Name }

// Needs lists the promises that the case is about. It is empty if the case holds for
// every backend.
func (c Case) Needs() []string { return c.needs.names() }

// result is the outcome of the case on a backend with those promises: failure says what was
// seen instead, and is empty if the sentence holds.
func (c Case) result(promised Promises, failure string, took time.Duration) Result {
	outcome := Passed
	switch kept := promised.cover(c.needs); {
	case !kept && failure == "":
		outcome = Bonus
	case !kept:
		outcome = Skipped
	case failure != "":
		outcome = Failed
	}
	return Result{
		Theme: c.Theme, Name: c.Name, Sentence: c.Sentence, Needs: c.Needs(),
		Outcome: outcome, Failure: failure, Took: took,
	}
}

// promise makes a case without a theme.
func promise(name, sentence string, needs need, test func(*harness)) Case {
	return Case{Name: name, Sentence: sentence, needs: needs, test: test}
}

// theme gives the cases their theme.
func theme(name string, cases ...Case) []Case {
	for i := range cases {
		cases[i].Theme = name
	}
	return cases
}
