package ezq

import "time"

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// closedWithin waits until c is closed, for d at most, and reports whether it is.
func closedWithin(d time.Duration, c <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return isClosed(c) // both at once
	}
}

// interrupts are two channels. Either of them, once closed, cuts a wait short.
type interrupts [2]<-chan struct{}

// wait waits for d, or until enough is closed. It returns false if it was cut short.
func (i interrupts) wait(d time.Duration, enough <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-i[0]:
		return false
	case <-i[1]:
		return false
	case <-timer.C:
	case <-enough:
	}
	return !isClosed(i[0]) && !isClosed(i[1])
}
