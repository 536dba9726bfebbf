package subscription

// Removable is a [Store] that tells when others may have removed messages that are leased.
type Removable interface {
	Store

	// Removed returns a channel that is closed when that may have happened since the call. It is a hint: what is
	// missed is found out with the next extension of the lease.
	Removed() <-chan struct{}
}
