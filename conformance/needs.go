package conformance

// need is the promises that a case is about, as a set.
type need uint32

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
	needsPatterns
	needsTransactions
	needsSchedules
	needsConditions
	needsSelection
	needsPauses
	needsDeadLetterStore
	needsInspection
	needsGroupPauses
)

func (n need) names() (names []string) {
	for _, row := range promisesOf(Promises{}) {
		if n&row.need != 0 {
			names = append(names, row.name)
		}
	}
	return names
}

// promised is a need with its name, which is that of the field of [Promises].
type promised struct {
	need need
	name string
	made bool
}

// promisesOf returns all promises, and which of them p makes.
func promisesOf(p Promises) []promised {
	return []promised{
		{needsDelay, "Delay", p.Delay},
		{needsRedelay, "Redelay", p.Redelay},
		{needsAttempts, "Attempts", p.Attempts},
		{needsProgress, "Progress", p.Progress},
		{needsDeadLetter, "DeadLetter", p.DeadLetter},
		{needsOrdered, "Ordered", p.Ordered},
		{needsLease, "Lease", p.Lease},
		{needsDrain, "Drain", p.Drain},
		{needsDurable, "Durable", p.Durable},
		{needsGroups, "Groups", p.Groups},
		{needsPatterns, "Patterns", p.Patterns},
		{needsTransactions, "Transactions", p.Transactions},
		{needsSchedules, "Schedules", p.Schedules},
		{needsConditions, "Conditions", p.Conditions},
		{needsSelection, "Selection", p.Selection},
		{needsPauses, "Pauses", p.Pauses},
		{needsDeadLetterStore, "DeadLetterStore", p.DeadLetterStore},
		{needsInspection, "Inspection", p.Inspection},
		{needsGroupPauses, "GroupPauses", p.GroupPauses},
	}
}
