package ezqtest

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// delivery is one delivery of a message, from the backend to the router.
type delivery struct {
	info   *backend.Delivery // nil if the backend does not say
	group  string            // of the consumer
	fault  atomic.Int32
	begun  atomic.Bool
	expire context.CancelCauseFunc

	recording  sync.WaitGroup // handlers whose end is not noted yet
	unreturned sync.Map       // the names of handlers that did not return
}

type deliveryKey struct{}

func deliveryFrom(ctx context.Context) *delivery {
	d, _ := ctx.Value(deliveryKey{}).(*delivery)
	return d
}

// committed reports whether the handler has removed the message in its transaction,
// as with pgmq's TxMiddleware. No fault can bring it back then.
func (d *delivery) committed() bool {
	if d.info == nil {
		return false
	}
	receipt, ok := d.info.Receipt.(interface{ Settled() bool })
	return ok && receipt.Settled()
}

// outcomeOf returns the outcome of a handler for msg, and the reason.
func outcomeOf(msg *message.Message, err error) (what, reason string) {
	if err != nil {
		if _, ok := ezq.SnoozeDelay(err); ok {
			return snoozed, err.Error()
		}
		return failed, err.Error()
	}
	if !backend.Nacked(msg) {
		return handled, ""
	}
	if info := backend.DeliveryFromContext(msg.Context()); info != nil {
		if disposition, _ := info.Disposition(); disposition.Target != nil {
			return failed, disposition.Target.Metadata[backend.DeadLetterReason]
		}
	}
	return interrupted, ""
}
