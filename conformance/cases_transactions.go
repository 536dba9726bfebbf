package conformance

import "sync/atomic"

func transactions() []Case {
	return theme("transactions",
		promise("what is committed arrives",
			"Messages that are published in a transaction arrive after its commit, as they were published.",
			needsTransactions, committedArrives),
		promise("what is not committed does not arrive",
			"Messages that are published in a transaction do not arrive before its commit.",
			needsTransactions, uncommittedWaits),
		promise("what is rolled back never arrives",
			"Messages that are published in a transaction that is rolled back do not exist.",
			needsTransactions, rolledBackIsGone),
		promise("a transaction is all or nothing",
			"Messages to several topics in one transaction arrive all, or none.",
			needsTransactions, allOrNothing),
		promise("a transaction holds up no other publisher",
			"While a transaction is open, what others publish arrives.",
			needsTransactions, openTransactionHoldsUpNobody),
	)
}

// beginTx starts a transaction at a peer. It is rolled back at the end of the case, if that
// has not ended it: it could hold up what comes after the case.
func beginTx(p *peer) *Tx {
	h := p.h
	h.require(p.Begin != nil, "Transactions is promised, and Connect returned a Peer without Begin")
	var tx *Tx
	h.must("Begin", func() (err error) {
		tx, err = p.Begin(h.ctx)
		return err
	})
	h.require(tx != nil && tx.Publisher != nil && tx.Commit != nil && tx.Rollback != nil, "Begin returned an incomplete Tx")
	var finished atomic.Bool
	ended := func(end func() error) func() error {
		return func() error {
			finished.Store(true)
			return end()
		}
	}
	h.atEnd(endTransactions, func() {
		if !finished.Load() {
			_ = h.call("Rollback", tx.Rollback) // the case has failed already
		}
	})
	return &Tx{Publisher: tx.Publisher, Commit: ended(tx.Commit), Rollback: ended(tx.Rollback)}
}

// publishInTx publishes in a transaction.
func publishInTx(h *harness, tx *Tx, topic string, labels ...string) {
	h.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, h.messages(labels...)...) })
}

func committedArrives(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	tx := beginTx(p)
	sent := h.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	h.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, sent) })
	h.must("Commit", tx.Commit)
	got := in.receive()
	requireSame(h, got, want)
	h.ack(got)
}

func uncommittedWaits(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	tx := beginTx(p)
	publishInTx(h, tx, topic, "a")
	in.none(2*quietPeriod, "it is not committed")
	h.must("Commit", tx.Commit)
	h.ack(in.expect("a"))
}

func rolledBackIsGone(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	tx := beginTx(p)
	publishInTx(h, tx, topic, "a")
	h.must("Rollback", tx.Rollback)
	in.none(2*quietPeriod, "it was rolled back")
	p.publish(topic, "b")
	h.ack(in.expect("b"))
}

func allOrNothing(h *harness) {
	p, one, two := connect(h, PeerConfig{}), h.topic(), h.topic()
	first, second := p.subscribe(one), p.subscribe(two)
	undone := beginTx(p)
	publishInTx(h, undone, one, "a")
	publishInTx(h, undone, two, "a")
	h.must("Rollback", undone.Rollback)
	done := beginTx(p)
	publishInTx(h, done, one, numbered(10)...)
	publishInTx(h, done, two, numbered(10)...)
	h.must("Commit", done.Commit)
	first.ackAll(numbered(10)...)
	second.ackAll(numbered(10)...)
}

func openTransactionHoldsUpNobody(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	tx := beginTx(p)
	publishInTx(h, tx, topic, "open")
	p.publish(topic, numbered(20)...)
	in.ackAll(numbered(20)...)
	h.must("Commit", tx.Commit)
	h.ack(in.expect("open"))
}
