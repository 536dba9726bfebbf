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
		promise("a transaction holds up nobody else",
			"While a transaction is open, what others publish arrives.",
			needsTransactions, openTransactionHoldsUpNobody),
	)
}

// begin starts a transaction at a peer.
func (b *bench) begin(p *peer) (tx *Tx) {
	b.require(p.Begin != nil, "Transactions is promised, and Connect returned a Peer without Begin")
	b.must("Begin", func() (err error) {
		tx, err = p.Begin(b.ctx)
		return err
	})
	b.require(tx != nil && tx.Publisher != nil && tx.Commit != nil && tx.Rollback != nil, "Begin returned an incomplete Tx")
	return b.rolledBackWithCase(tx)
}

// rolledBackWithCase rolls a transaction back at the end of the case, if that has not
// ended it: it could hold up whatever comes after the case.
func (b *bench) rolledBackWithCase(tx *Tx) *Tx {
	var over atomic.Bool
	ended := func(end func() error) func() error {
		return func() error {
			over.Store(true)
			return end()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.undo = append(b.undo, func() {
		if !over.Load() {
			_ = b.call("Rollback", tx.Rollback) // the case has failed already
		}
	})
	return &Tx{Publisher: tx.Publisher, Commit: ended(tx.Commit), Rollback: ended(tx.Rollback)}
}

// write publishes in a transaction.
func (b *bench) write(tx *Tx, topic string, labels ...string) {
	b.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, b.messages(labels...)...) })
}

func committedArrives(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	tx := b.begin(p)
	sent := b.message("a")
	sent.Metadata.Set("k", "v")
	want := sent.Copy()
	b.must("Publish in a transaction", func() error { return tx.Publisher.Publish(topic, sent) })
	b.must("Commit", tx.Commit)
	got := in.receive()
	b.requireSame(got, want)
	b.ack(got)
}

func uncommittedWaits(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	tx := b.begin(p)
	b.write(tx, topic, "a")
	in.none(2*moment, "it is not committed")
	b.must("Commit", tx.Commit)
	b.ack(in.expect("a"))
}

func rolledBackIsGone(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	tx := b.begin(p)
	b.write(tx, topic, "a")
	b.must("Rollback", tx.Rollback)
	in.none(2*moment, "it was rolled back")
	p.publish(topic, "b")
	b.ack(in.expect("b"))
}

func allOrNothing(b *bench) {
	p, one, two := b.connect(Options{}), b.topic(), b.topic()
	first, second := p.subscribe(one), p.subscribe(two)
	undone := b.begin(p)
	b.write(undone, one, "a")
	b.write(undone, two, "a")
	b.must("Rollback", undone.Rollback)
	done := b.begin(p)
	b.write(done, one, numbered(10)...)
	b.write(done, two, numbered(10)...)
	b.must("Commit", done.Commit)
	first.ackAll(numbered(10)...)
	second.ackAll(numbered(10)...)
}

func openTransactionHoldsUpNobody(b *bench) {
	p, topic := b.connect(Options{}), b.topic()
	in := p.subscribe(topic)
	tx := b.begin(p)
	b.write(tx, topic, "open")
	p.publish(topic, numbered(20)...)
	in.ackAll(numbered(20)...)
	b.must("Commit", tx.Commit)
	b.ack(in.expect("open"))
}
