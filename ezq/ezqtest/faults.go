package ezqtest

// fault is what goes wrong with a delivery. In each case its outcome is lost, so that the
// event is delivered again, and no failure is counted.
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
