package ezq

import (
	"context"

	"github.com/ezq-go/ezq/backend"
)

// seat says on which slot a handler works.
type seat uint8

const (
	shared seat = iota // the one that the event was taken with
	own                // one of its own, after it had to wait
	none               // none: it waits
)

// awaitTurn waits until no event of the same key is being handled any more. It
// returns false, and leaves no slot, if the router stops before that.
func (k *task) awaitTurn() bool {
	if k.turn == nil {
		return true
	}
	if !k.turn.come() && !k.waitWithoutSlot() {
		return false
	}
	// If what was before it had to go back, so does this one. Otherwise it would begin
	// before those, which end their turns in going.
	if k.starting.Err() == nil {
		return true
	}
	k.slots.free()
	return false
}

func (k *task) waitWithoutSlot() bool {
	done := k.slots.await(1)
	defer done()
	backend.Park(k.ctx, true)
	k.slots.free()
	lend := k.slots.lend
	if k.turn.outer == nil {
		lend = nil // it is not in the middleware of a Watermill router
	}
	select {
	case <-k.turn.before:
		if k.slots.wait(k.starting.Done(), nil, lend) {
			backend.Park(k.ctx, false)
			return true
		}
	case <-k.starting.Done():
	}
	return false
}

// enter waits until rt, whose handler is to begin, may handle one event more. It
// returns false if the router stops before that.
func (h *handling) enter(rt *route) bool {
	return rt.limit == nil || h.admit(rt.limit, 1)
}

// admit waits for a token of limit, with which the handler of so many events begins.
// Meanwhile they take up no slot. It returns false if the router stops before that.
//
// If no other handler could begin with what comes next, nothing more is taken then:
// it is for other processes.
func (h *handling) admit(limit chan struct{}, events int) bool {
	select {
	case limit <- struct{}{}:
		return true
	default:
	}
	k := h.task
	if k.sole {
		events = k.slots.most
	}
	done := k.slots.await(events)
	defer done()
	h.stepAside()
	select {
	case limit <- struct{}{}:
		if h.comeBack() {
			return true
		}
		<-limit
	case <-k.starting.Done():
	}
	return false
}

// YieldSlot is for middleware that makes an event wait for another one: it calls wait,
// and meanwhile the event takes up none of Config.Concurrency, so that the other one
// can be handled. It returns the error of wait, or [ErrInterrupted] if the router stops
// before there is a place again: the middleware returns that too, and the event goes
// back and has not failed. Outside of an ezq router it just calls wait.
func YieldSlot(ctx context.Context, wait func() error) error {
	h := handlingFrom(ctx)
	if h == nil || h.task == nil {
		return wait()
	}
	done := h.task.slots.await(1)
	defer done()
	h.stepAside()
	err := wait()
	if h.turnedAway = !h.comeBack(); h.turnedAway && err == nil {
		return ErrInterrupted
	}
	return err
}

func (rt *route) leave() {
	if rt.limit != nil {
		<-rt.limit
	}
}

// stepAside gives up the slot that the handler works on.
func (h *handling) stepAside() {
	k := h.task
	before := h.seat
	h.seat = none
	if before == own || before == shared && k.shares.Add(-1) == 0 {
		backend.Park(k.ctx, true)
		k.slots.free()
	}
}

// comeBack waits for a slot again. It returns false if the router stops before.
func (h *handling) comeBack() bool {
	if !h.task.slots.retake(h.task.starting.Done(), nil) {
		return false
	}
	h.sitDown()
	return true
}

// sitDown makes a slot that was retaken the handler's own.
func (h *handling) sitDown() {
	h.seat = own
	backend.Park(h.task.ctx, false)
}
