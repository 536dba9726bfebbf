package lease

// A trigger or a constraint can refuse to extend the lease of one message, or take a minute for it. That
// keeps back neither the messages that are examined with it nor those of another queue, which
// are examined in turn with them.

// extension is what has become of leases that were to be extended together.
type extension struct {
	extended    idSet
	failed      []Row // by themselves: PostgreSQL refuses it, or takes too long
	untried     []Row
	refusal     error // of the first that has failed
	unreachable error // why the server could not be reached for the others; nil if it could
}
