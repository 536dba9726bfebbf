package subscription

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ezq-go/ezq/internal/sparse"
)

// batchLocker locks messages, and ends the locks in time.
type batchLocker struct {
	config  Config
	locker  Locker
	leases  *leases
	batches lockedBatches
	settler *settler
	running sync.WaitGroup // one for each locked batch
}

// lock locks messages, up to limit. ok is false if the store cannot just now.
//
// If one of them may have been delivered before, all are leased before they are handed
// over, and so counted: it may be what ends its consumers' processes. The others would
// overtake it if they did not wait for that.
func (bl *batchLocker) lock(limit int) (claim Claim, ok bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), bl.config.OperationTimeout)
	defer cancel()
	sent := time.Now()
	batch, claim, ok, err := bl.locker.Lock(ctx, limit, bl.config.Lease)
	if !ok {
		return Claim{}, false, nil
	}
	bl.config.Counters.fetched(len(claim.Leases), err)
	if err != nil {
		bl.batches.lockFailed()
	}
	if err != nil || batch == nil {
		return claim, true, err
	}
	bl.leases.observeSizes(claim.Leases, sent)
	if claim.Redelivered {
		claim, err = bl.leaseAtOnce(ctx, batch, claim)
		return claim, true, err
	}
	b := newLockedBatch(batch, sent)
	b.leases = prepare(bl.leases, claim.Leases, sent)
	bl.batches.add(b)
	bl.running.Go(func() { bl.finishInTime(b) })
	return claim, true, nil
}

// leaseAtOnce ends a lock before any of its messages is handed over. All of them are leased.
func (bl *batchLocker) leaseAtOnce(ctx context.Context, batch LockedBatch, claim Claim) (Claim, error) {
	tokens := make([]Token, len(claim.Leases))
	for i, l := range claim.Leases {
		tokens[i] = l.Token
	}
	sent := time.Now()
	leased, err := batch.Finish(ctx, nil, tokens, bl.config.Lease)
	if err != nil {
		bl.config.Counters.fetched(0, err)
		bl.batches.lockFailed()
		return Claim{}, err
	}
	var given []Lease
	var unleased []int64
	for i, token := range leased {
		if token == (Token{}) {
			unleased = append(unleased, tokens[i].ID)
			continue
		}
		claim.Leases[i].Token = token
		given = append(given, claim.Leases[i])
	}
	bl.logUnleased(unleased)
	claim.Leases = given
	bl.leases.add(prepare(bl.leases, claim.Leases, sent))
	return claim, nil
}

// logUnleased logs which messages the end of a lock could not lease.
func (bl *batchLocker) logUnleased(ids []int64) {
	if len(ids) == 0 {
		return
	}
	about := sparse.About{Text: "ezq: messages cannot be leased; they stay in the store, and may be delivered again", Topic: bl.config.Topic}
	sparse.Log(context.Background(), bl.config.Logger, slog.LevelError, about,
		"topic", bl.config.Topic, "messages", len(ids), "ids", firstIDs(ids),
		"cause", "something in the store keeps them as they are, such as a trigger that returns NULL, a rule or a policy")
}

// finishInTime ends a lock after LockFor, or before that if it is due.
func (bl *batchLocker) finishInTime(b *lockedBatch) {
	timer := time.NewTimer(bl.config.LockFor)
	defer timer.Stop()
	select {
	case <-b.due:
	case <-timer.C:
	}
	bl.finish(b)
}

// finish ends a lock. If the store refuses to remove the acked messages, they are leased,
// too. If the end fails, acked messages may still be there. Their acks are then stored as
// those of leased messages: each counts unless another consumer has claimed its message
// since. The other messages are lost.
func (bl *batchLocker) finish(b *lockedBatch) {
	acked, rest := bl.batches.close(b)
	ctx, cancel := context.WithTimeout(context.Background(), bl.config.OperationTimeout)
	defer cancel()
	sent := time.Now()
	leased, err := b.store.Finish(ctx, tokensOf(acked), tokensOf(rest), bl.config.Lease)
	_, refused := errors.AsType[*Refusal](err)
	switch {
	case refused:
		bl.logUnleased(bl.batches.finished(b, append(acked, rest...), leased, 0, sent))
	case err != nil:
		bl.logLost(len(rest), err)
		bl.batches.lost(b)
	default:
		bl.config.Counters.Acked.Add(int64(len(acked)))
		bl.config.Counters.Unstored.Add(-int64(len(acked)))
		bl.logUnleased(bl.batches.finished(b, rest, leased, len(acked), sent))
	}
	bl.storeRest(b, err == nil, slowError(ctx, err))
	close(b.ended)
	bl.batches.remove(b)
}

// logLost logs that a lock has failed to end, with which messages are lost that were being handled. Acks are
// stored later.
func (bl *batchLocker) logLost(messages int, err error) {
	if messages == 0 {
		bl.config.Logger.Error("ezq: cannot store outcomes; will try again", "topic", bl.config.Topic, "error", err)
		return
	}
	bl.config.Logger.Error("ezq: cannot store outcomes; messages that were being handled are delivered again",
		"topic", bl.config.Topic, "messages", messages, "error", err)
}

// storeRest has the settlements stored that the end of a lock has not stored: those which
// came too late, and those which are more than an ack. Of a message that is not ours any more,
// only an ack counts. If the store was too slow, one of those may be the reason: see [settler.search].
func (bl *batchLocker) storeRest(b *lockedBatch, stored bool, slow error) {
	var suspects []Settlement
	for _, s := range b.settlements {
		s.Token, s.unleased = s.lease.Token, s.lease.lockLost
		switch {
		case stored && s.lease.lockOutcome == lockRemoved:
		case s.unleased && s.Action != Ack: // a nack of a message that other consumers have already
			bl.config.Counters.Unstored.Add(-1)
		case s.unleased && slow != nil:
			suspects = append(suspects, s.Settlement)
		default:
			bl.settler.queueFor(s.Settlement).add(s.Settlement)
		}
	}
	if len(suspects) > 0 {
		bl.settler.search(bl.settler.settlements, suspects, slow)
	}
}

// slowError returns err if the store did not answer in time.
func slowError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil {
		return nil
	}
	return err
}

func tokensOf(leases []*held) []Token {
	tokens := make([]Token, len(leases))
	for i, l := range leases {
		tokens[i] = l.Token
	}
	return tokens
}
