package conformance

import "time"

// quietPeriod is how long a case listens before it believes that nothing comes. A loaded
// machine makes it miss something, it does not make it fail.
const quietPeriod = 250 * time.Millisecond

// slack is by how much clocks may disagree within a case: they may be those of two
// machines, and round.
const slack = 100 * time.Millisecond

// longestRehearsed is the longest time that a case waits because its steps take long on this machine.
const longestRehearsed = 10 * time.Second

// noticeableDelay is one that the backend can keep apart from none.
func noticeableDelay(h *harness) time.Duration {
	return max(time.Second, 2*h.promises.DelayResolution)
}

// delayBeyond returns a noticeable delay in which the steps of a case could be taken ten times, up to
// longestRehearsed: it takes them twice, the second time to see how long they take on this machine now. The case
// waits longer for what must happen after such delays. The steps are given a label that they have not had.
func delayBeyond(h *harness, steps func(label string)) time.Duration {
	steps("rehearsal 1") // connects, and creates what there is to create
	start := time.Now()
	steps("rehearsal 2")
	d := max(noticeableDelay(h), min(10*time.Since(start), longestRehearsed))
	h.timeout += 6 * d
	return d
}

// quietBeyond returns a quiet period in which the steps of a case could be taken ten times, for a case that fails
// if something comes after it. It takes them, to see how long they take on this machine now.
func quietBeyond(h *harness, steps func()) time.Duration {
	start := time.Now()
	steps()
	d := max(quietPeriod, min(10*time.Since(start), longestRehearsed))
	h.timeout += 6 * d
	return d
}

// requireDelay ends the case unless something took about as long as it should.
func requireDelay(h *harness, took, want time.Duration) {
	h.require(took >= want-slack-h.promises.DelayResolution, "it came after %v instead of %v", took, want)
	h.require(took <= want+tolerance(h), "it came after %v instead of %v", took, want)
}

// tolerance is how much later than it should something may come: next to nothing in virtual
// time, and what a machine under load may take in real time.
func tolerance(h *harness) time.Duration {
	if h.virtual {
		return slack
	}
	return 15*time.Second + h.promises.DelayResolution
}

// closedWithin reports whether c is closed in that time.
func closedWithin(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}
