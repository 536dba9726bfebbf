package ezqtest

import (
	"context"
	"runtime"
)

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

// crashIfInjected ends the handler of ctx, as the end of its process would, if a crash of
// its delivery is injected.
func crashIfInjected(ctx context.Context) {
	if d := deliveryFrom(ctx); d != nil && d.fault.Load() == int32(crash) {
		runtime.Goexit()
	}
}
