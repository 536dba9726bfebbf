package conformance

// need is the promises that a case is about, as a set.
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
	needsConditions
	needsSelection
	needsPauses
)

func (n need) names() (names []string) {
	for i, name := range []string{
		"Delay", "Redelay", "Attempts", "Progress", "DeadLetter", "Ordered", "Lease", "Drain",
		"Durable", "Groups", "Transactions", "Ticks", "Conditions", "Selection", "Pauses",
	} {
		if n&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}
