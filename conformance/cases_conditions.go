package conformance

import (
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func conditions() []Case {
	return theme("conditions",
		promise("an ID is stored once",
			"Of several messages with one ID that are published with Once, also at once and after the first was acked, one is stored, and the others are told so.",
			needsConditions, idIsStoredOnce),
		promise("a batch stores its new IDs",
			"Of a batch that is published with Once, those messages are stored whose IDs are new, each once.",
			needsConditions, batchStoresNewIDs),
		promise("an ID counts in its topic",
			"A message is stored whose ID is known in another topic, or that is published without Once.",
			needsConditions, idCountsInItsTopic),
		promise("a key is unique while its message is pending",
			"While a message with a key waits, is being handled, or is to come again, no other one with that key is stored, and its ID is told.",
			needsConditions, keyIsUnique),
		promise("a key is free when its message is done",
			"After the message with a key was acked, the next one is stored.",
			needsConditions, keyIsFreeAfterAck),
		promise("a key is free after a dead letter",
			"After the message with a key was dead-lettered, the next one is stored.",
			needsConditions|needsDeadLetter, keyIsFreeAfterDeadLetter),
		promise("a key is free when its message has expired",
			"While a message waits that has expired, as backend.ExpiresAt says, the next one with its key is stored, and has it then. What is no time does not count.",
			needsConditions, keyIsFreeAfterExpiry),
		promise("what waits is replaced",
			"A message that waits is replaced by one with its key: that one is delivered, alone, with its ID, its payload and its metadata, when the first was due.",
			needsConditions|needsDelay, waitingIsReplaced),
		promise("what waits for years is not replaced",
			"A message that is due in more than backend.MaxReplaceWait is not replaced by one that is due sooner: that one is stored, and delivered. One that is due as late replaces it.",
			needsConditions|needsDelay, waitingForYearsIsNotReplaced),
		promise("what is being handled is not replaced",
			"A message that is being handled is not replaced: the new one is stored, and delivered too.",
			needsConditions, handledIsNotReplaced),
		promise("a debounced message waits for the last one",
			"With Debounce, the clock begins again with each message that replaces another, and ends after the longest time.",
			needsConditions|needsDelay, debounceWaits),
		promise("a condition that cannot be is refused",
			"A condition that contradicts itself, or has a key that is no text, is an error of Publish, and nothing is stored.",
			needsConditions, impossibleConditionIsRefused),
		promise("a condition ends with its transaction",
			"An ID and a key count if the transaction commits, in which their message was published, and are free if it rolls back.",
			needsConditions|needsTransactions, conditionEndsWithTransaction),
	)
}

// publishOn publishes a message on a condition and returns what the backend reports. Any goroutine
// may call it.
func publishOn(p *peer, topic string, msg *message.Message, c *backend.PublishCondition) backend.PublishResult {
	msg.SetContext(backend.WithPublishCondition(p.h.ctx, c))
	p.send(topic, msg)
	result, ok := c.Result()
	p.h.require(ok, "Publish returned without a report on its condition")
	return result
}

// requireOutcome ends the case unless a publish had the outcome, and found the message that is there.
func requireOutcome(h *harness, got backend.PublishResult, want backend.PublishOutcome, id, when string) {
	h.require(got.Outcome == want, "%s, a publish has the outcome %q instead of %q", when, got.Outcome, want)
	h.require(got.ID == id, "%s, the ID %q is told instead of %q", when, got.ID, id)
}

// withID returns a message whose ID is that of another one.
func withID(h *harness, label string, of *message.Message) *message.Message {
	msg := h.message(label)
	msg.UUID = of.UUID
	return msg
}

func idIsStoredOnce(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	first := h.message("once")
	results := make(chan backend.PublishResult, 8)
	var publishing sync.WaitGroup
	for range cap(results) / 2 {
		for _, p := range []*peer{one, two} {
			publishing.Go(func() {
				results <- publishOn(p, topic, withID(h, "once", first), &backend.PublishCondition{Once: true})
			})
		}
	}
	publishing.Wait()
	close(results)
	stored := 0
	for r := range results {
		h.require(r.ID == first.UUID, "the ID %q is told instead of %q", r.ID, first.UUID)
		h.require(r.Outcome != backend.PublishReplaced, "a message was replaced")
		if r.Outcome == backend.PublishStored {
			stored++
		}
	}
	h.require(stored == 1, "%d of several publishers of one ID were told that theirs is stored", stored)
	h.ack(in.expect("once"))
	in.none(quietPeriod, "its ID was known")
	again := publishOn(two, topic, withID(h, "again", first), &backend.PublishCondition{Once: true})
	requireOutcome(h, again, backend.PublishExisted, first.UUID, "after the first message was acked")
	in.none(quietPeriod, "its ID was known")
}

func batchStoresNewIDs(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	known := h.message("known")
	publishOn(p, topic, known, &backend.PublishCondition{Once: true})
	h.ack(in.expect("known"))

	fresh := h.message("fresh")
	batch := []*message.Message{fresh, withID(h, "known again", known), h.message("other"), withID(h, "fresh again", fresh)}
	var conditions []*backend.PublishCondition
	for _, msg := range batch {
		conditions = append(conditions, &backend.PublishCondition{Once: true})
		msg.SetContext(backend.WithPublishCondition(h.ctx, conditions[len(conditions)-1]))
	}
	p.send(topic, batch...)
	for i, want := range []backend.PublishOutcome{backend.PublishStored, backend.PublishExisted, backend.PublishStored, backend.PublishExisted} {
		result, ok := conditions[i].Result()
		h.require(ok, "Publish returned without a report on message %d of a batch", i)
		requireOutcome(h, result, want, batch[i].UUID, "in a batch")
	}
	in.ackAll("fresh", "other")
	in.none(quietPeriod, "its ID was known")
}

func idCountsInItsTopic(h *harness) {
	p, topic, other := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, otherInbox := p.subscribe(topic), p.subscribe(other)
	first := h.message("first")
	publishOn(p, topic, first, &backend.PublishCondition{Once: true})
	elsewhere := publishOn(p, other, withID(h, "elsewhere", first), &backend.PublishCondition{Once: true})
	requireOutcome(h, elsewhere, backend.PublishStored, first.UUID, "in another topic")
	p.send(topic, withID(h, "plain", first))
	in.ackAll("first", "plain")
	otherInbox.ackAll("elsewhere")
}

func keyIsUnique(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	first := h.message("first")
	requireOutcome(h, publishOn(one, topic, first, &backend.PublishCondition{UniqueKey: "k"}), backend.PublishStored, first.UUID, "with a new key")
	requireKeyTaken := func(when string) {
		for _, p := range []*peer{one, two} {
			requireOutcome(h, publishOn(p, topic, h.message("another"), &backend.PublishCondition{UniqueKey: "k"}), backend.PublishExisted, first.UUID, when)
		}
	}
	requireKeyTaken("while a message with its key waits")
	different := h.message("different")
	requireOutcome(h, publishOn(two, topic, different, &backend.PublishCondition{UniqueKey: "K"}), backend.PublishStored, different.UUID, "with another key")
	in := one.subscribe(topic)
	handled := in.receiveAll("first", "different")
	requireKeyTaken("while a message with its key is being handled")
	h.ack(handled["different"])
	h.nack(handled["first"])
	again := in.expect("first")
	requireKeyTaken("while a message with its key has come again")
	h.ack(again)
	in.none(quietPeriod, "another one with its key was there")
}

// publishUntilStored publishes a message with a key until it is stored: a settlement may take its time.
func publishUntilStored(p *peer, topic, label, key, when string) {
	deadline := time.Now().Add(p.h.timeout)
	for publishOn(p, topic, p.h.message(label), &backend.PublishCondition{UniqueKey: key}).Outcome != backend.PublishStored {
		p.h.require(time.Now().Before(deadline), "its key is not free %s", when)
		time.Sleep(10 * time.Millisecond)
	}
}

func keyIsFreeAfterAck(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	publishOn(p, topic, h.message("first"), &backend.PublishCondition{UniqueKey: "k"})
	h.ack(in.expect("first"))
	publishUntilStored(p, topic, "second", "k", "although its message was acked")
	h.ack(in.expect("second"))
}

func keyIsFreeAfterExpiry(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	publish := func(msg *message.Message, key, expires string) backend.PublishResult {
		msg.Metadata.Set(backend.ExpiresAt, expires)
		return publishOn(p, topic, msg, &backend.PublishCondition{UniqueKey: key})
	}
	expired, future := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339Nano), time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	second, third := h.message("second"), h.message("third")
	publish(h.message("first"), "k", expired)
	requireOutcome(h, publish(second, "k", future), backend.PublishStored, second.UUID, "after the message with its key has expired")
	requireOutcome(h, publish(h.message("another"), "k", ""), backend.PublishExisted, second.UUID, "while a message with its key waits that has not expired")
	publish(third, "K", "soon")
	requireOutcome(h, publish(h.message("another"), "K", ""), backend.PublishExisted, third.UUID, "while a message with its key waits that does not say when it expires")
	p.subscribe(topic).ackAll("first", "second", "third")
}

func keyIsFreeAfterDeadLetter(h *harness) {
	p, topic, dead := connect(h, PeerConfig{}), h.topic(), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(dead)
	publishOn(p, topic, h.message("first"), &backend.PublishCondition{UniqueKey: "k"})
	giveUp(h, in.expect("first"), dead)
	publishUntilStored(p, topic, "second", "k", "although its message was dead-lettered")
	h.ack(in.expect("second"))
	h.ack(deadInbox.expect("first"))
}

func waitingIsReplaced(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	d := delayBeyond(h, func(label string) {
		for range 2 {
			publishOn(p, topic, h.delayed(label, time.Hour), &backend.PublishCondition{UniqueKey: label, Replace: true})
		}
	})
	first, second := h.delayed("first", d), h.delayed("second", time.Hour)
	first.Metadata.Set("of", "the first")
	start := time.Now()
	publishOn(p, topic, first, &backend.PublishCondition{UniqueKey: "k", Replace: true})
	result := publishOn(p, topic, second, &backend.PublishCondition{UniqueKey: "k", Replace: true})
	requireOutcome(h, result, backend.PublishReplaced, first.UUID, "while a message with its key waits")
	got := in.expect("second")
	requireDelay(h, time.Since(start), d)
	want := second.Copy()
	backend.ClearDelay(want.Metadata)
	requireSame(h, got, want)
	h.ack(got)
	in.none(quietPeriod, "it was replaced")
}

func waitingForYearsIsNotReplaced(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	const years = 2 * backend.MaxReplaceWait
	replace := func() *backend.PublishCondition { return &backend.PublishCondition{UniqueKey: "k", Replace: true} }
	first, late, second := h.delayed("first", years), h.delayed("late", years+time.Hour), h.message("second")
	publishOn(p, topic, first, replace())
	requireOutcome(h, publishOn(p, topic, late, replace()), backend.PublishReplaced, first.UUID, "while a message waits that is due as late")
	requireOutcome(h, publishOn(p, topic, second, replace()), backend.PublishStored, second.UUID, "while a message waits that is due in years")
	h.ack(in.expect("second"))
	in.none(quietPeriod, "the other one is due in years")
}

func handledIsNotReplaced(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	publishOn(p, topic, h.message("first"), &backend.PublishCondition{UniqueKey: "k", Replace: true})
	first, second := in.expect("first"), h.message("second")
	result := publishOn(p, topic, second, &backend.PublishCondition{UniqueKey: "k", Replace: true})
	requireOutcome(h, result, backend.PublishStored, second.UUID, "while a message with its key is being handled")
	h.ack(in.expect("second"))
	h.ack(first)
	in.none(quietPeriod, "all were acked")
}

func debounceWaits(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	d := delayBeyond(h, func(label string) {
		for range 3 {
			publishOn(p, topic, h.delayed(label, time.Hour), &backend.PublishCondition{UniqueKey: label, Replace: true})
		}
	})
	debounce := &backend.PublishCondition{UniqueKey: "k", Replace: true, Debounce: 3 * d}
	publish := func(label string, delay time.Duration) {
		publishOn(p, topic, h.delayed(label, delay), debounce)
	}
	start := time.Now()
	publish("first", d)
	publish("second", 2*d)
	publish("third", 10*d+time.Hour)
	got := in.expect("third")
	requireDelay(h, time.Since(start), 3*d)
	h.ack(got)
	start = time.Now()
	publish("fourth", time.Hour)
	publish("fifth", d)
	h.ack(in.expect("fifth"))
	requireDelay(h, time.Since(start), d)
	start = time.Now()
	publish("alone", time.Hour)
	h.ack(in.expect("alone"))
	requireDelay(h, time.Since(start), 3*d)
}

func impossibleConditionIsRefused(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for _, c := range []*backend.PublishCondition{
		{},
		{Once: true, UniqueKey: "k"},
		{Replace: true},
		{UniqueKey: "k", Debounce: time.Second},
		{UniqueKey: "k", Replace: true, Debounce: -1},
		{UniqueKey: "\x00"},
		{UniqueKey: "\xff"},
	} {
		msg := h.message("refused")
		msg.SetContext(backend.WithPublishCondition(h.ctx, c))
		h.require(!p.trySend(topic, msg), "the condition {Once: %v, UniqueKey: %q, Replace: %v, Debounce: %v} was accepted", c.Once, c.UniqueKey, c.Replace, c.Debounce)
	}
	nameless := h.message("refused")
	nameless.UUID = ""
	nameless.SetContext(backend.WithPublishCondition(h.ctx, &backend.PublishCondition{Once: true}))
	h.require(!p.trySend(topic, nameless), "a message without an ID was accepted to be stored once")
	in.none(quietPeriod, "it was refused")
	publishOn(p, topic, h.message("next"), &backend.PublishCondition{UniqueKey: "k"})
	h.ack(in.expect("next"))
}

func conditionEndsWithTransaction(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	for _, commit := range []bool{false, true} {
		once, unique := h.message("once"), h.message("unique")
		once.UUID = h.id + "-once"
		once.SetContext(backend.WithPublishCondition(h.ctx, &backend.PublishCondition{Once: true}))
		unique.SetContext(backend.WithPublishCondition(h.ctx, &backend.PublishCondition{UniqueKey: "k"}))
		tx := beginTx(p)
		h.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, once) })
		h.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, unique) })
		if commit {
			h.must("Commit", tx.Commit)
		} else {
			h.must("Rollback", tx.Rollback)
			in.none(quietPeriod, "it was rolled back")
		}
	}
	got := in.receiveAll("once", "unique")
	again := publishOn(p, topic, withID(h, "again", got["once"]), &backend.PublishCondition{Once: true})
	requireOutcome(h, again, backend.PublishExisted, got["once"].UUID, "after the commit")
	another := publishOn(p, topic, h.message("another"), &backend.PublishCondition{UniqueKey: "k"})
	requireOutcome(h, another, backend.PublishExisted, got["unique"].UUID, "after the commit")
	h.ack(got["once"])
	h.ack(got["unique"])
}
