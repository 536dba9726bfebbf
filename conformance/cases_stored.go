package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func storedMessages() []Case {
	return theme("stored messages",
		promise("a message is found",
			"A message that waits is found by its ID, its key and a header, if all that is asked for matches, with what it says and when it is due.",
			needsSelection|needsDelay|needsConditions, messageIsFound),
		promise("a field of the body is found",
			"A message is found by a field of its JSON body, which has the value that is asked for as JSON: a number is no text. A body that is no object has no fields, and a list no members.",
			needsSelection|needsDelay, fieldIsFound),
		promise("a correlation is a tree",
			"The messages of a correlation are found in several topics and their dead letters, each below its cause; a cause that is gone or leads in circles hides none.",
			needsSelection|needsDelay|needsDeadLetter, correlationIsATree),
		promise("a state is told",
			"A message that is being handled is found as delivered, and as dead in the dead-letter topic that is named after its own.",
			needsSelection|needsDeadLetter, stateIsTold),
		promise("what waits is cancelled",
			"A message that is delayed is not delivered after it was cancelled, by its ID or its key; all others are; and its key is free.",
			needsSelection|needsDelay|needsConditions, waitingIsCancelled),
		promise("what is being handled is not cancelled",
			"A message that is being handled stays, and is counted, at once.",
			needsSelection, handledIsNotCancelled),
		promise("what is being handled is stopped",
			"The context of a message that is cancelled with CancelRunning while another process has it ends, with the cause ErrCancelled; it is delivered no more, and others are.",
			needsSelection, handledIsStopped),
		promise("a cancel tells what it has found",
			"CancelRunning counts what waits as removed, what is being handled as stopped, and nothing of what was acked or cancelled before.",
			needsSelection|needsDelay, cancelTellsWhatItFinds),
		promise("what waits is rescheduled",
			"A message that is delayed is delivered at the time to which it is moved, earlier or later.",
			needsSelection|needsDelay, waitingIsRescheduled),
		promise("what is being handled is not rescheduled",
			"A message that is being handled stays, and is counted, at once.",
			needsSelection, handledIsNotRescheduled),
		promise("a selection that chooses nothing is refused",
			"A selection without a condition is an error, and so is one by header for Cancel, CancelRunning and Reschedule; nothing is changed.",
			needsSelection, emptySelectionIsRefused),
	)
}

// selecting is what a publisher can do that promises Selection.
type selecting interface {
	backend.Finder
	backend.Canceller
	backend.Rescheduler
}

func selectionOf(p *peer) selecting {
	s, ok := p.Publisher.(selecting)
	p.h.require(ok, "the publisher is no backend.Finder, Canceller and Rescheduler")
	return s
}

func find(p *peer, topic string, s backend.Selection) (found []backend.Found) {
	p.h.must("Find", func() (err error) {
		found, err = selectionOf(p).Find(p.h.ctx, topic, s)
		return err
	})
	return found
}

func cancel(p *peer, topic string, s backend.Selection) (cancelled backend.Cancelled) {
	p.h.must("Cancel", func() (err error) {
		cancelled, err = selectionOf(p).Cancel(p.h.ctx, topic, s)
		return err
	})
	return cancelled
}

func reschedule(p *peer, topic string, s backend.Selection, at time.Time) (rescheduled backend.Rescheduled) {
	p.h.must("Reschedule", func() (err error) {
		rescheduled, err = selectionOf(p).Reschedule(p.h.ctx, topic, s, at)
		return err
	})
	return rescheduled
}

// requireChanged ends the case unless that many messages were changed, and that many were busy.
func requireChanged(h *harness, what string, done, busy, wantDone, wantBusy int) {
	h.require(done == wantDone, "%d messages are said to be %s instead of %d", done, what, wantDone)
	h.require(busy == wantBusy, "%d messages are said to be busy instead of %d", busy, wantBusy)
}

// requireCancelled cancels what is selected, and ends the case unless that is one message.
func requireCancelled(p *peer, topic string, s backend.Selection) {
	got := cancel(p, topic, s)
	requireChanged(p.h, "removed", got.Removed, got.Busy, 1, 0)
}

func requireRescheduled(p *peer, topic string, s backend.Selection, at time.Time) {
	got := reschedule(p, topic, s, at)
	requireChanged(p.h, "moved", got.Moved, got.Busy, 1, 0)
}

func messageIsFound(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	msg := h.delayed("a", time.Hour)
	msg.Metadata.Set("tenant", "x")
	want := msg.Copy()
	backend.ClearDelay(want.Metadata)
	due := time.Now().Add(time.Hour)
	publishOn(one, topic, msg, &backend.PublishCondition{UniqueKey: "k"})
	one.send(topic, h.delayed("other", time.Hour))
	for _, s := range []backend.Selection{
		{ID: msg.UUID}, {UniqueKey: "k"}, {Header: "tenant", Value: "x"}, {ID: msg.UUID, UniqueKey: "k", Header: "tenant", Value: "x"},
	} {
		found := find(two, topic, s)
		h.require(len(found) == 1, "%d messages are found instead of one", len(found))
		f := found[0]
		h.require(f.Err == nil && f.Place == backend.InTopic && f.State == backend.StateDelayed, "it is found in the place %q, as %q, with the error %v", f.Place, f.State, f.Err)
		requireSame(h, &message.Message{UUID: f.ID, Payload: f.Payload, Metadata: f.Metadata}, want)
		h.require(f.UniqueKey == "k", "the key %q is told", f.UniqueKey)
		h.require(f.VisibleAt.Sub(due).Abs() <= tolerance(h)+slack, "it is said to be due %v late", f.VisibleAt.Sub(due))
	}
	for _, s := range []backend.Selection{
		{ID: "another"}, {UniqueKey: "K"}, {Header: "tenant", Value: "y"}, {Header: "other", Value: "x"}, {ID: msg.UUID, UniqueKey: "K"}, {ID: msg.UUID, Header: "tenant"},
	} {
		h.require(len(find(two, topic, s)) == 0, "a message is found that is not asked for")
	}
	h.require(len(find(two, h.topic(), backend.Selection{ID: msg.UUID})) == 0, "a message of another topic is found")
}

func stateIsTold(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in, deadInbox := p.subscribe(topic), p.subscribe(topic+"_dead")
	sent := h.message("a")
	p.send(topic, sent)
	msg := in.expect("a")
	requireState(p, topic, sent.UUID, backend.InTopic, backend.StateDelivered)
	giveUp(h, msg, topic+"_dead")
	requireState(p, topic, sent.UUID, backend.InDeadLetters, backend.StateDead)
	h.ack(deadInbox.expect("a"))
}

// requireState ends the case unless the message is found in a place and a state. What consumers do may
// take its time to be seen.
func requireState(p *peer, topic, id string, place backend.Place, state backend.State) {
	deadline := time.Now().Add(p.h.timeout)
	for {
		found := find(p, topic, backend.Selection{ID: id})
		if len(found) == 1 && found[0].Place == place && found[0].State == state {
			return
		}
		p.h.require(time.Now().Before(deadline), "it is not found in the place %q as %q, but so: %v", place, state, found)
		time.Sleep(10 * time.Millisecond)
	}
}

func waitingIsCancelled(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	d := delayBeyond(h, func(label string) {
		rehearsal := h.delayed(label, time.Hour)
		publishOn(one, topic, rehearsal, &backend.PublishCondition{UniqueKey: label})
		one.send(topic, h.delayed(label+", beside", time.Hour))
		requireCancelled(two, topic, backend.Selection{UniqueKey: label})
		cancel(two, topic, backend.Selection{ID: rehearsal.UUID})
	})
	first, second := h.delayed("first", d), h.delayed("second", d)
	publishOn(one, topic, first, &backend.PublishCondition{UniqueKey: "k"})
	one.send(topic, second, h.delayed("other", d))
	requireCancelled(two, topic, backend.Selection{UniqueKey: "k"})
	requireCancelled(two, topic, backend.Selection{ID: second.UUID})
	again := cancel(two, topic, backend.Selection{ID: second.UUID})
	requireChanged(h, "removed", again.Removed, again.Busy, 0, 0)
	third := h.delayed("third", d)
	requireOutcome(h, publishOn(one, topic, third, &backend.PublishCondition{UniqueKey: "k"}), backend.PublishStored, third.UUID, "after the message with its key was cancelled")
	in.ackAll("other", "third")
	in.none(quietPeriod, "it was cancelled")
}

func handledIsNotCancelled(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	sent := h.message("a")
	p.send(topic, sent)
	msg := in.expect("a")
	got := cancel(p, topic, backend.Selection{ID: sent.UUID})
	requireChanged(h, "removed", got.Removed, got.Busy, 0, 1)
	h.nack(msg)
	h.ack(in.expect("a"))
	in.none(quietPeriod, "it was acked")
}

// requireStopped cancels what is selected, and ends the case unless it finds what is wanted.
func requireStopped(p *peer, topic string, s backend.Selection, want backend.Cancelled, when string) {
	var got backend.Cancelled
	p.h.must("CancelRunning", func() (err error) {
		got, err = selectionOf(p).CancelRunning(p.h.ctx, topic, s)
		return err
	})
	p.h.require(got == want, "CancelRunning found %+v instead of %+v %s", got, want, when)
}

func handledIsStopped(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	sent, other := h.message("a"), h.message("b")
	one.send(topic, sent, other)
	received := in.receiveAll("a", "b")
	requireStopped(two, topic, backend.Selection{ID: sent.UUID}, backend.Cancelled{Stopped: 1}, "while it was being handled")
	awaitContextEnd(h, received["a"], "it was cancelled")
	cause := context.Cause(received["a"].Context())
	h.require(errors.Is(cause, backend.ErrCancelled), "the context ended with the cause %q instead of ErrCancelled", cause)
	h.nack(received["a"])
	in.none(quietPeriod, "it was cancelled")
	h.require(received["b"].Context().Err() == nil, "the context of a message ended with that of another one, which was cancelled")
	h.nack(received["b"])
	h.ack(in.expect("b"))
	in.none(quietPeriod, "it was cancelled or acked")
}

// awaitStoredAck waits until a message that was acked is gone, or archived.
func awaitStoredAck(p *peer, topic, id string) {
	for deadline := time.Now().Add(p.h.timeout); ; time.Sleep(10 * time.Millisecond) {
		found := find(p, topic, backend.Selection{ID: id})
		if len(found) == 0 || found[0].State == backend.StateArchived {
			return
		}
		p.h.require(time.Now().Before(deadline), "a message that was acked is still found as %q", found[0].State)
	}
}

func cancelTellsWhatItFinds(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	waiting, handled, done := h.delayed("waiting", time.Hour), h.message("handled"), h.message("done")
	one.send(topic, waiting, handled, done)
	received := in.receiveAll("handled", "done")
	h.ack(received["done"])
	awaitStoredAck(two, topic, done.UUID)
	requireStopped(two, topic, backend.Selection{ID: done.UUID}, backend.Cancelled{}, "when it was acked")
	for _, want := range []backend.Cancelled{{Removed: 1}, {}} {
		requireStopped(two, topic, backend.Selection{ID: waiting.UUID}, want, "while it waited, or after that")
	}
	for _, want := range []backend.Cancelled{{Stopped: 1}, {}} {
		requireStopped(two, topic, backend.Selection{ID: handled.UUID}, want, "while it was being handled, or after that")
	}
	h.nack(received["handled"])
	in.none(quietPeriod, "it was acked or cancelled")
}

func waitingIsRescheduled(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	in := one.subscribe(topic)
	d := delayBeyond(h, func(label string) {
		rehearsal := h.delayed(label, time.Hour)
		one.send(topic, rehearsal)
		for range 3 {
			requireRescheduled(two, topic, backend.Selection{ID: rehearsal.UUID}, time.Now().Add(time.Hour))
		}
	})
	sooner, later := h.delayed("sooner", time.Hour), h.delayed("later", time.Hour)
	now := h.delayed("now", time.Hour)
	one.send(topic, sooner, later, now)
	start := time.Now()
	requireRescheduled(two, topic, backend.Selection{ID: later.UUID}, start.Add(4*d))
	requireRescheduled(two, topic, backend.Selection{ID: sooner.UUID}, start.Add(2*d))
	requireRescheduled(two, topic, backend.Selection{ID: later.UUID}, start.Add(6*d)) // it is not due for long
	requireRescheduled(two, topic, backend.Selection{ID: now.UUID}, time.Time{})
	h.ack(in.expect("now"))
	h.ack(in.expect("sooner"))
	requireDelay(h, time.Since(start), 2*d)
	h.ack(in.expect("later"))
	requireDelay(h, time.Since(start), 6*d)
}

func handledIsNotRescheduled(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	sent := h.message("a")
	p.send(topic, sent)
	msg := in.expect("a")
	got := reschedule(p, topic, backend.Selection{ID: sent.UUID}, time.Time{})
	requireChanged(h, "moved", got.Moved, got.Busy, 0, 1)
	in.none(quietPeriod, "it is being handled")
	h.ack(msg)
}

func emptySelectionIsRefused(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	in := p.subscribe(topic)
	refuse := func(what string, do func() error) {
		err := h.call(what, do)
		h.requireRefusal(err)
		h.require(err != nil, "%s accepted a selection that cannot be", what)
	}
	s := selectionOf(p)
	for _, empty := range []backend.Selection{{}, {Limit: 1}, {Value: "x"}, {ID: "a", Limit: -1}, {ID: "\x00"}} {
		refuse("Find", func() error { _, err := s.Find(h.ctx, topic, empty); return err })
	}
	for _, wide := range []backend.Selection{{}, {Event: "E"}, {ID: "a", Header: "tenant"}} {
		refuse("Cancel", func() error { _, err := s.Cancel(h.ctx, topic, wide); return err })
		refuse("CancelRunning", func() error { _, err := s.CancelRunning(h.ctx, topic, wide); return err })
		refuse("Reschedule", func() error { _, err := s.Reschedule(h.ctx, topic, wide, time.Now()); return err })
	}
	p.publish(topic, "a")
	h.ack(in.expect("a"))
}
