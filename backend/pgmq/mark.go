package pgmq

import "time"

// mark is how far a subscription has come through its queue. PostgreSQL keeps what was
// deleted for as long as any transaction is open that is older, and each look at the front
// of the queue walks over all of it. A hold then begins where the last one has ended.
//
// What is behind the mark, it does not see: a message that was given back to its place, or
// whose publish has committed late. So it looks at the whole queue again and again, for a
// tenth of its time; and always where that takes no longer than a part.
type mark struct {
	at     time.Time     // all that was visible before has been held
	passed time.Time     // the latest that this look has come to
	began  time.Time     // when this look began,
	part   bool          // and whether at the mark
	last   time.Time     // when a look at the whole queue has ended,
	whole  time.Duration // and how long it took
	parts  time.Duration // how long the last look from the mark took; 0: there was none
}

// slowLook is what looking at the whole queue must take for a mark to be worth it.
const slowLook = 5 * time.Millisecond

// begin returns the earliest vt to look at.
func (m *mark) begin(now time.Time) time.Time {
	m.began = now
	m.part = m.whole >= slowLook && 2*m.parts < m.whole && now.Sub(m.last) < 10*m.whole
	if m.passed = time.Unix(0, 0); m.part {
		m.passed = m.at
	}
	return m.passed
}

// pass is told the vt of each message that is found. Between looks it does nothing.
func (m *mark) pass(vt time.Time) {
	if vt.After(m.passed) {
		m.passed = vt
	}
}

// end is told when the look that began last has ended.
func (m *mark) end(now time.Time) {
	m.at = m.passed
	if m.part {
		m.parts = now.Sub(m.began)
		return
	}
	m.last, m.whole = now, now.Sub(m.began)
}
