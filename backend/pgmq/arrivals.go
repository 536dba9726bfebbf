package pgmq

import (
	"context"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
	"github.com/ezq-go/ezq/backend/pgmq/internal/search"
)

// MaxArrivals is how many messages [Client.Arrivals] returns of a queue at most, and of its archive.
const MaxArrivals = search.MaxArrivals

// ArrivalSelection chooses messages of a queue by the order in which they were stored.
type ArrivalSelection struct {
	Group string // the consumer group whose queue it is; "" for the topic's own

	// After chooses those with a higher Row. Rows are given out before a transaction commits: one with a lower
	// Row can appear after one with a higher Row.
	After int64

	// Newest chooses the newest so many, up to [MaxArrivals]. With 0 it is the oldest behind After.
	Newest int

	// Known leaves out messages by their Row, which are not read then. Nil leaves out none.
	Known func(row int64) bool
}

// Arrival is a message that a queue or its archive has.
type Arrival struct {
	Row int64 // its msg_id
	backend.Found
}

// arrivals finds what a is about.
func (a ArrivalSelection) arrivals(ctx context.Context, i *inspector, topic string) ([]Arrival, error) {
	const op = "look for arrivals"
	p := backend.Peek{Group: a.Group}
	if err := i.stored.check(topic, p.Check()); err != nil {
		return nil, fault.Classify(op, topic, err)
	}
	queue, err := search.PeekedQueue(topic, a.Group)
	if err == nil {
		err = i.requireTrusted(ctx, queue)
	}
	if err != nil {
		return nil, fault.Classify(op, topic, err)
	}
	found, err := search.Arrivals{Group: a.Group, After: a.After, Newest: a.Newest, Known: a.Known}.Find(ctx, i.stored.search, topic)
	all := make([]Arrival, len(found))
	for n, f := range found {
		all[n] = Arrival{Row: f.Row, Found: f.Found}
	}
	return all, fault.Classify(op, topic, err)
}
