package lease

import (
	"github.com/jackc/pgx/v5"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// settleResult is what becomes of a batch of acks and nacks.
type settleResult struct {
	found        idSet
	ackPending   bool // the server has not answered yet,
	nackPending  bool // nor this,
	checkPending bool // nor this
}

// collect returns what reads the answer to a statement, which is under way until then.
func (s *settleResult) collect(underWay *bool) func(pgx.Rows) error {
	*underWay = true
	return func(rows pgx.Rows) error {
		err := s.found.collect(rows)
		*underWay = err != nil
		return err
	}
}

// refusal returns err as a [*subscription.Refusal], or nil if it is not one. An operator
// may mend the table or the role's privileges.
func (s *settleResult) refusal(of *queue, err error) error {
	if !fault.IsServerError(err) || !s.ackPending && !s.nackPending && !s.checkPending {
		return nil
	}
	return &subscription.Refusal{Cause: of.classify("settle", err), Transient: fault.MayBeRetried(err)}
}
