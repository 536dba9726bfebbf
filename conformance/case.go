package conformance

import "slices"

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

// Cases returns the whole suite, theme by theme.
func Cases() []Case {
	return slices.Concat(
		delivery(), payload(), topics(), redelivery(), delays(), ordering(), leases(), groups(),
		transactions(), deadLetters(), ticks(), lifecycle(), stopping(), hostile(), features(),
		handling(), routerDeadLetters(), control(), stoppingRouters(),
	)
}

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

// need is the promises that a case is about.
type need uint16

const (
	needsDelay need = 1 << iota
	needsRedelay
	needsAttempts
	needsProgress
	needsDeadLetter
	needsOrdered
	needsLease
	needsDrain
	needsDurable
	needsGroups
	needsTransactions
	needsTicks
)

func (n need) names() (names []string) {
	for i, name := range []string{
		"Delay", "Redelay", "Attempts", "Progress", "DeadLetter", "Ordered", "Lease", "Drain",
		"Durable", "Groups", "Transactions", "Ticks",
	} {
		if n&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

// cover reports whether all that a case is about is promised.
func (p Promises) cover(c Case) bool { return p.set()&c.needs == c.needs }

// set returns the promises as a set.
func (p Promises) set() (n need) {
	for i, made := range []bool{
		p.Delay, p.Redelay, p.Attempts, p.Progress, p.DeadLetter, p.Ordered, p.Lease, p.Drain,
		p.Durable, p.Groups, p.Transactions, p.Schedules,
	} {
		if made {
			n |= 1 << i
		}
	}
	return n
}
