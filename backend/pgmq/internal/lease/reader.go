package lease

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/ezq-go/ezq/backend/internal/subscription"
	"github.com/ezq-go/ezq/backend/pgmq/internal/transact"
	"github.com/ezq-go/ezq/internal/sparse"
)

// reader reads messages of a queue that are leased.
type reader struct{ queue *queue }

// scan reads claimed messages. Further columns go to also.
func (r reader) scan(rows pgx.Rows, also ...any) (result readResult, err error) {
	const block = 16 // deliveries in one allocation
	var free []delivery
	var found Row
	var size int64
	columns := []any{&found.ID, &found.Number, &found.ReadAt, &found.PublishedAt, &found.VisibleAt, &found.Message, &found.Headers, &size, &found.Known}
	columns = append(columns, also...)
	for rows.Next() {
		if err := rows.Scan(columns...); err != nil {
			return result, err
		}
		if size < 0 || size > int64(r.queue.maxMessageBytes) {
			result.tooLarge = append(result.tooLarge, unread{row: found.withoutText(), cause: sizeError(size, r.queue.maxMessageBytes)})
			continue
		}
		if result.isSurplus(found.ID) {
			result.surplus = append(result.surplus, found.token())
			continue
		}
		if len(free) == 0 {
			free = make([]delivery, block)
		}
		lease, forged := found.lease(r.queue.topic, r.queue.name, r.queue.sql(), &free[0])
		free = free[1:]
		result.add(lease, r.queue.maxBytes)
		if forged.any() {
			result.forged = append(result.forged, forged)
		}
	}
	// UPDATE … RETURNING has no order.
	slices.SortFunc(result.leases, func(a, b subscription.Lease) int { return cmp.Compare(a.ID, b.ID) })
	return result, rows.Err()
}

// read reads leased messages.
func (r reader) read(ctx context.Context, db transact.Sender, leased []Row, timeout time.Duration) (result readResult, err error) {
	var t tokenColumns
	known := make([]bool, len(leased))
	for i, one := range leased {
		t.add(one.token())
		known[i] = one.Known
	}
	batch := transact.NewWithTimeout(timeout)
	batch.Queue(r.queue.sql().Read, t.ids, t.numbers, r.queue.maxMessageBytes, t.times, known).Query(func(rows pgx.Rows) (err error) {
		result, err = r.scan(rows)
		return err
	})
	if err := batch.Run(ctx, db); err != nil {
		return readResult{}, err
	}
	return result, nil
}

// readTogether reads leased messages of up to maxBytes in all, and returns those that it has
// failed for by themselves, and those for which there was no time.
func (r reader) readTogether(ctx context.Context, db transact.Sender, leased []Row, within time.Duration, maxBytes int64) (all readResult, failed, untried []Row) {
	failed, untried = bisect(leased, within, func(part []Row, timeout time.Duration) error {
		result, err := r.read(ctx, db, part, timeout)
		all.merge(result, maxBytes)
		return err
	})
	return all, failed, untried
}

// findSuspicious returns those of the messages that look harmless, those that do not, or that it fails for,
// and those that there was no time for. It writes none of them out.
func (r reader) findSuspicious(ctx context.Context, leased []Row) (good []Row, bad []unread, untried []Row) {
	suspicious := map[int64]bool{}
	failed, untried := bisect(leased, screenTimeout, func(part []Row, timeout time.Duration) error {
		batch := transact.NewWithTimeout(timeout)
		found := idSet{}
		batch.Queue(r.queue.sql().Suspicious, rowIDs(part), r.harmlessSize()).Query(found.collect)
		err := batch.Run(ctx, r.queue.pool)
		for id := range found {
			suspicious[id] = true
		}
		return err
	})
	skipped := map[int64]bool{}
	for _, one := range untried {
		skipped[one.ID] = true
	}
	for _, one := range failed {
		suspicious[one.ID] = true
	}
	untried = slices.DeleteFunc(untried, func(one Row) bool { return suspicious[one.ID] })
	for _, one := range leased {
		switch {
		case suspicious[one.ID]:
			bad = append(bad, unread{row: one})
		case !skipped[one.ID]:
			good = append(good, one)
		}
	}
	return good, bad, untried
}

// harmlessSize is how many bytes a message may take for it to be looked at, and to be harmless:
// so few take some milliseconds to look at, whatever they are, and some megabytes written out.
func (r reader) harmlessSize() int { return min(max(r.queue.maxMessageBytes/256, 8192), 16384) }

// minimumSizes returns how large messages are at least, as far as it is known: 0 up to limit; and those
// that cannot be sized.
func (r reader) minimumSizes(ctx context.Context, db *pgxpool.Pool, some []suspect, limit int) (sizes map[int64]int64, failed idSet) {
	sizes, failed = map[int64]int64{}, idSet{}
	alone, _ := bisect(suspectRows(some), examineTimeout, func(part []Row, timeout time.Duration) error {
		batch := transact.NewWithTimeout(timeout)
		batch.Queue(r.queue.sql().MinimumSize, rowIDs(part), limit).Query(func(rows pgx.Rows) error {
			var id, size int64
			_, err := pgx.ForEachRow(rows, []any{&id, &size}, func() error {
				sizes[id] = size
				return nil
			})
			return err
		})
		return batch.Run(ctx, db)
	})
	for _, one := range alone {
		failed[one.ID] = true
	}
	return sizes, failed
}

// removeForged removes what the messages of a claim only pretend, before they are handed over.
func (r reader) removeForged(ctx context.Context, db transact.Sender, forged []forgery) {
	failed, err := storeApart(forged, func(part []forgery, timeout time.Duration) error {
		var t tokenColumns
		named := make([]bool, len(part))
		for i, f := range part {
			t.add(f.token)
			named[i] = f.named
		}
		batch := transact.NewWithTimeout(timeout)
		batch.Queue(r.queue.sql().RemoveForged, t.ids, t.numbers, t.times, named)
		return batch.Run(ctx, db)
	})
	if len(failed) > 0 {
		about := sparse.About{Text: "ezq: what messages pretend to be could not be removed from their headers, and counts when they are delivered again", Topic: r.queue.topic}
		sparse.Log(ctx, r.queue.logger, slog.LevelWarn, about, "topic", r.queue.topic, "queue", r.queue.name, "messages", len(failed),
			"msg_id", failed[0].token.ID, "error", r.queue.classify("fetch", err))
	}
}
