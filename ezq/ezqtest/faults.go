package ezqtest

// fault is what goes wrong with a delivery. Its outcome is lost in any case, so that
// the event is delivered again, without a failure on its account.
type fault int32

const (
	none fault = iota
	duplicate
	crash
	lease
)

// describe ends a sentence about a delivery.
func (what fault) describe() string {
	switch what {
	case duplicate:
		return "is repeated"
	case crash:
		return "crashes and is repeated"
	default:
		return "loses its lease and is repeated"
	}
}
