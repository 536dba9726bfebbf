package soak_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/ledger"
)

// The load is so many publishers, each of which publishes so often.
const (
	plainPublishers = 6
	inTxPublishers  = 2
	tick            = 8 * time.Millisecond
)

// publish publishes to both topics until stop is called, which waits until every publish has ended.
func (s *soak) publish(name string, queue *pgmq.Queue) (stop func()) {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for topic, publishers := range map[string]int{plain: plainPublishers, inTx: inTxPublishers} {
		for p := range publishers {
			running.Go(func() {
				clock := time.NewTicker(tick)
				defer clock.Stop()
				for n := 1; ctx.Err() == nil; n++ {
					id := fmt.Sprintf("%s-%d-%d", name, p, n)
					err := ezq.Publish(context.Background(), queue, happened{ID: id}, ezq.Topic(topic))
					s.ledger(topic).Published(id, s.outcome(err))
					<-clock.C
				}
			})
		}
	}
	return func() { cancel(); running.Wait() }
}

func (s *soak) outcome(err error) ledger.Outcome {
	switch {
	case err == nil:
		return ledger.Stored
	case errors.Is(err, pgmq.ErrRejected):
		return ledger.Rejected
	default:
		if !errors.Is(err, pgmq.ErrUnknownOutcome) {
			s.Errorf("a publish fails and does not say what became of its event: %v", err)
		}
		return ledger.Unknown
	}
}
