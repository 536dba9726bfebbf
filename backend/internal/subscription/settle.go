package subscription

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ezq-go/ezq/internal/excerpt"
	"github.com/ezq-go/ezq/internal/sparse"
)

// settler stores the outcomes of messages. Dead letters have a queue of their own: they go
// to other tables, where they may have to wait, and nothing else waits for them.
type settler struct {
	config      Config
	store       Store
	leases      *leases
	settlements *settlementQueue // all but dead letters
	deadLetters *settlementQueue
}

func newSettler(config Config, store Store, leases *leases) *settler {
	return &settler{
		config:      config,
		store:       store,
		leases:      leases,
		settlements: newSettlementQueue(),
		deadLetters: newSettlementQueue(),
	}
}

// settle takes the outcome of a message and frees its slot. The outcome is
// taken first: once all slots are free, all outcomes are known. With SyncAck the
// slot is free once the outcome is stored.
func (s *settler) settle(l *held, settlement Settlement) {
	if s.leases.settleLocked(l, &settlement) {
		return
	}
	settlement.Token = l.Token
	if s.config.SyncAck {
		s.leases.stopExtending(l)
		s.enqueue(settlement)
		return
	}
	s.enqueue(settlement)
	s.leases.remove(l)
}

// release releases a message that was never handed over.
func (s *settler) release(l *held) {
	defer l.cancel(nil)
	release := Settlement{Action: Release}
	if s.leases.releaseLocked(l) || s.leases.settleLocked(l, &release) {
		return
	}
	release.Token = l.Token
	s.enqueue(release)
	s.leases.remove(l)
}

// releaseWaiting releases what was fetched and not handed over.
func (s *settler) releaseWaiting() {
	for _, l := range s.leases.waiting() {
		s.release(l)
	}
}

func (s *settler) enqueue(settlement Settlement) {
	s.config.Counters.Unstored.Add(1)
	s.queueFor(settlement).add(settlement)
}

// queueFor returns where a settlement waits to be stored.
func (s *settler) queueFor(settlement Settlement) *settlementQueue {
	if settlement.Action == DeadLetter {
		return s.deadLetters
	}
	return s.settlements
}

// run stores the settlements of a queue until ctx ends. They wait for each other for as long
// as Linger allows, and for as long as the previous batch takes. Those of groups may be slow, and have
// calls of their own.
func (s *settler) run(ctx context.Context, queue *settlementQueue) {
	var groups sync.WaitGroup
	groups.Go(func() {
		s.runEach(ctx, func() { waitFor(ctx, queue.untilGroupDue(), queue.addedGroup) },
			func(ctx context.Context) error { return s.storeGroup(ctx, queue) })
	})
	s.runEach(ctx, func() {
		if waitFor(ctx, queue.untilDue(), queue.added); s.config.Linger > 0 {
			waitFor(ctx, s.config.Linger, nil)
		}
	}, func(ctx context.Context) error { return s.storeUnsuspected(ctx, queue) })
	groups.Wait()
}

// runEach stores what there is, again and again, until ctx ends.
func (s *settler) runEach(ctx context.Context, wait func(), store func(context.Context) error) {
	failing, log := backoff{min: retryMin, max: retryMax}, logThrottle{}
	for {
		if wait(); ctx.Err() != nil {
			return
		}
		sent := time.Now()
		err := store(context.Background()) // a begun call is finished
		if err == nil {
			failing.reset()
			continue
		}
		retryIn := max(failing.next()-time.Since(sent), 0)
		if log.allows(time.Now()) {
			s.config.Logger.Error("ezq: cannot store outcomes; will try again",
				"topic", s.config.Topic, "retry_in", retryIn.Round(time.Millisecond).String(), "error", err)
		}
		waitFor(ctx, retryIn, nil)
	}
}

// errKept is why settlements are left that the store has answered without an error.
var errKept = errors.New("the messages are still in the store, which has returned no error: others have locked them," +
	" or something keeps them, such as a trigger that returns NULL, a rule or a policy")

// flush stores what is left when the subscription ends.
func (s *settler) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	var deadLetters sync.WaitGroup
	deadLetters.Go(func() { s.flushQueue(ctx, s.deadLetters) })
	s.flushQueue(ctx, s.settlements)
	deadLetters.Wait()
	s.flushQueue(ctx, s.settlements) // what has become of dead letters that were refused
}

func (s *settler) flushQueue(ctx context.Context, queue *settlementQueue) {
	failing := backoff{min: retryMin, max: 4 * retryMin}
	var err error
	for left := queue.len(); left > 0; left = queue.len() {
		if ctx.Err() != nil {
			s.config.Logger.Error("ezq: could not store what has become of messages; they will be delivered again",
				"topic", s.config.Topic, "messages", queue.messages(), "error", cmp.Or(err, queue.refusal(), errKept))
			s.config.Counters.Unstored.Add(-int64(left))
			queue.clear()
			return
		}
		sent := time.Now()
		if err = cmp.Or(s.storeUnsuspected(ctx, queue), s.storeGroup(ctx, queue)); err != nil {
			waitFor(ctx, max(failing.next()-time.Since(sent), 0), nil)
		} else {
			waitFor(ctx, max(sooner(queue.untilDue(), queue.untilGroupDue()), 0), nil)
		}
	}
}

// storeUnsuspected stores one batch of settlements of which nothing is suspected, and one of those that a lost
// lock has left.
func (s *settler) storeUnsuspected(ctx context.Context, queue *settlementQueue) error {
	return cmp.Or(s.storeUnleased(ctx, queue), s.send(ctx, queue, queue.take(settleBatch)))
}

func (s *settler) storeUnleased(ctx context.Context, queue *settlementQueue) error {
	queue.begin()
	defer queue.end()
	return s.send(ctx, queue, queue.takeUnleased(settleBatch, false))
}

// storeGroup stores one group of settlements, and then what the store has refused for now. At the end of the
// subscription, parts of a group that has failed come last.
func (s *settler) storeGroup(ctx context.Context, queue *settlementQueue) error {
	_, ends := ctx.Deadline()
	return cmp.Or(
		s.send(ctx, queue, queue.takeGroup(!ends)),
		s.send(ctx, queue, queue.takeRefused()),
	)
}

// storeLate stores what lost locks have left, except what the next claim carries: no
// message may be claimed while its ack is under way, or it would be delivered again. It
// tries each once, and reports whether the claim carries all that are left, or their messages
// are leased. The caller has begun: see [settlementQueue.begin].
func (s *settler) storeLate() (all bool, err error) {
	ctx := context.Background()
	for calls := s.settlements.unleased() / settleBatch; calls > 0 && err == nil; calls-- {
		err = s.send(ctx, s.settlements, s.settlements.takeUnleased(settleBatch, true))
	}
	return s.settlements.unleased() <= settleBatch && s.leases.suspectsAreLeased(), err
}

func (s *settler) send(ctx context.Context, queue *settlementQueue, batch []Settlement) error {
	if len(batch) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, s.patienceWith(ctx, queue, batch))
	defer cancel()
	sent := time.Now()
	missed, err := s.store.Settle(limited, batch)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return s.handleRefusal(ctx, queue, batch, refusal)
	}
	if err != nil {
		return s.handleSilence(queue, batch, err, limited.Err() != nil && ctx.Err() == nil)
	}
	queue.answered(time.Since(sent))
	s.stored(queue, batch, missed)
	return nil
}

// patience is how long a call that settles may take. Messages acked meanwhile wait for it, and
// are not leased again: the call must have ended long before those leases do.
func (s *settler) patience() time.Duration {
	return min(s.config.OperationTimeout, max(s.config.Lease/6, patienceMin))
}

// patienceWith is how long the call may take that settles a batch. While some outcomes are slow, each wrong
// guess costs the time of others, and a call may take less: see [settlementQueue.patience]. Only those that were
// slow by themselves have all the time, one by one. At the end of the subscription it leaves time for others.
func (s *settler) patienceWith(ctx context.Context, queue *settlementQueue, batch []Settlement) time.Duration {
	patience, share := s.patience(), time.Duration(4)
	if batch[0].group != refusedGroup {
		patience = queue.patience(patience)
	}
	if batch[0].group != 0 {
		share = 10
	}
	if end, ends := ctx.Deadline(); ends {
		patience = min(patience, time.Until(end)/share)
	}
	return patience
}

// handleSilence sends a batch again that has failed and was not refused. If the store was too slow, some
// settlements may be the reason. They are searched for, so that the others are stored, and no message is
// handled again because its ack waits. Each wrong guess costs all the patience, and each right one a round
// trip: so the batch is sent in many small parts, and then one by one. A settlement that is slow by itself
// is tried apart from the others until it is stored, and is no error any more.
func (s *settler) handleSilence(queue *settlementQueue, batch []Settlement, cause error, slow bool) error {
	if !slow {
		queue.add(batch...)
		return cause
	}
	if len(batch) > 1 {
		s.search(queue, batch, cause)
		return cause
	}
	queue.silent(batch[0].group)
	if batch[0].Action == Ack {
		batch[0].wait = refusedMax // its lease is extended between the tries: each may lock the message
		s.keepAcks(queue, batch, &Refusal{Cause: cause})
	} else {
		batch[0].wait = 0 // no time counts in which the store has not refused it
		s.retryLater(queue, batch, &Refusal{Cause: cause})
	}
	return nil
}

// search has the parts of a batch sent for which the store was too slow because of cause. The tries lock
// messages: those that are not leased are leased before.
func (s *settler) search(queue *settlementQueue, batch []Settlement, cause error) {
	queue.silent(batch[0].group)
	s.leases.suspectAcks(batch, cause)
	for part := range slices.Chunk(batch, partSize(len(batch))) {
		queue.addGroup(part, 4*cancelTime)
	}
}

// stored records that the store has carried out a batch, but for what it missed.
func (s *settler) stored(queue *settlementQueue, batch []Settlement, missed Missed) {
	s.config.Counters.settled(batch, missed)
	busy, done := missed.split(batch)
	queue.postpone(busy, backoff{min: busyMin, max: busyMax})
	if since := s.leases.stored(done); !since.IsZero() {
		s.config.Logger.Info("ezq: acks are stored again", "topic", s.config.Topic, "lasted", time.Since(since).Round(time.Millisecond).String())
	}
	late, kept := missed.lost(batch)
	if late > 0 {
		s.config.Logger.Warn("ezq: messages were settled after their leases were lost; they are delivered again",
			"topic", s.config.Topic, "messages", late)
	}
	if kept > 0 {
		s.config.Logger.Warn("ezq: messages were settled in time, and stayed in the store until their leases ended; they are delivered again",
			"topic", s.config.Topic, "messages", kept,
			"cause", "others have locked them for so long, or something in the store keeps them, such as a trigger that returns NULL, a rule or a policy")
	}
}

// handleRefusal has a batch of which the store refuses something sent in halves, until it is
// known what that is. Where it has refused many acks, it may be the fault of none of them: they are
// then refused together, but for one, which tells when the store accepts acks again.
func (s *settler) handleRefusal(ctx context.Context, queue *settlementQueue, batch []Settlement, refusal *Refusal) error {
	half := len(batch) / 2
	switch {
	case refusal.Whole || half == 0:
		s.divide(queue, batch, refusal)
		return nil
	case s.leases.manyRefused() && allAcks(batch):
		s.keepAcks(queue, batch[1:], refusal)
		return s.send(ctx, queue, batch[:1])
	}
	s.leases.suspectAcks(batch, refusal.Cause)
	queue.addGroup(batch[:half], 0)
	queue.addGroup(batch[half:], 0)
	return nil
}

// divide does with each settlement of a batch that the store refuses what is left to do.
func (s *settler) divide(queue *settlementQueue, batch []Settlement, refusal *Refusal) {
	var acks, later []Settlement
	for _, settlement := range batch {
		switch {
		case settlement.Action == Ack:
			acks = append(acks, settlement)
		case refusal.Transient && settlement.wait < refusedMax:
			later = append(later, settlement)
		default:
			s.reduce(settlement, refusal)
		}
	}
	s.keepAcks(queue, acks, refusal)
	s.retryLater(queue, later, refusal)
}

// keepAcks tries acks again that the store refuses, and goes on leasing their messages, which
// are done: each of them would be handled again for as long as the store refuses its ack.
func (s *settler) keepAcks(queue *settlementQueue, acks []Settlement, refusal *Refusal) {
	if len(acks) == 0 {
		return
	}
	if more := s.leases.keepRefused(acks, refusal.Cause); more > 0 {
		about := sparse.About{Text: "ezq: acks are refused or slow; their messages stay leased; retrying", Topic: s.config.Topic}
		sparse.Log(context.Background(), s.config.Logger, slog.LevelError, about,
			"topic", s.config.Topic, "messages", more, "msg_id", acks[0].ID, "error", refusal.Cause)
	}
	queue.postponeRefused(acks, refusal.Cause)
}

// retryLater tries settlements again that are no acks, and that the store may accept as they are.
func (s *settler) retryLater(queue *settlementQueue, settlements []Settlement, refusal *Refusal) {
	for _, settlement := range settlements {
		s.logRefusal("ezq: what became of a message cannot be stored now; it is tried again", settlement, refusal)
	}
	queue.postponeRefused(settlements, refusal.Cause)
}

// reduce replaces a settlement that the store refuses by one that stores less, which it may
// accept, or drops it if there is none: its message is then delivered again.
func (s *settler) reduce(settlement Settlement, refusal *Refusal) {
	switch {
	case settlement.Action == DeadLetter && !settlement.Bare && !refusal.Whole:
		settlement.Bare = true
	case settlement.Action == DeadLetter:
		s.logRefusal("ezq: a dead letter cannot be moved; its message will be delivered again", settlement, refusal)
		settlement.Action, settlement.Bare = Nack, false
	case settlement.Action == Nack && !settlement.Bare:
		s.logRefusal("ezq: the failures of a message cannot be stored; it will be delivered again without them", settlement, refusal)
		settlement.Bare = true
	default:
		s.logRefusal("ezq: what became of a message cannot be stored; it will be delivered again", settlement, refusal)
		s.config.Counters.Unstored.Add(-1)
		s.leases.stored([]Settlement{settlement})
		return
	}
	if settlement.Bare {
		s.queueFor(settlement).addGroup([]Settlement{settlement}, 0)
		return
	}
	settlement.group = 0
	s.queueFor(settlement).add(settlement)
}

func (s *settler) logRefusal(text string, about Settlement, refusal *Refusal) {
	attrs := []any{"topic", s.config.Topic, "error", refusal.Cause}
	if about.UUID != "" {
		attrs = append(attrs, "id", excerpt.Of(about.UUID))
	} else {
		attrs = append(attrs, "msg_id", about.ID)
	}
	sparse.Log(context.Background(), s.config.Logger, slog.LevelError, sparse.About{Text: text, Topic: s.config.Topic}, attrs...)
}
