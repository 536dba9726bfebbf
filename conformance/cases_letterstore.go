package conformance

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func storedDeadLetters() []Case {
	return theme("stored dead letters",
		promise("dead letters are listed",
			"The dead letters of a topic are listed with what they say of themselves, the oldest first and page by page.",
			needsDeadLetterStore, deadLettersAreListed),
		promise("a selection chooses dead letters",
			"What is set in a selection chooses dead letters by row, ID, handler, event, reason, header and time, and all of it must match.",
			needsDeadLetterStore, selectionChoosesDeadLetters),
		promise("a field of the body chooses dead letters",
			"Dead letters are listed, redriven and purged by a field of their JSON body, which has the value that is asked for as JSON.",
			needsDeadLetterStore, fieldChoosesDeadLetters),
		promise("dead letters are counted",
			"Dead letters are counted by what they say of themselves; reasons that differ in numbers alone are one, and what is beyond the limit is added up.",
			needsDeadLetterStore, deadLettersAreCounted),
		promise("a redrive moves what is chosen",
			"A redriven dead letter comes to its topic again with its ID, its payload and its own metadata, as in its first delivery; all others stay.",
			needsDeadLetterStore, redriveMovesWhatIsChosen),
		promise("a redriven message expires no more",
			"A dead letter that had a time from which on it is not to be handled has it no more when it is redriven, also after an edit.",
			needsDeadLetterStore, redrivenExpiresNoMore),
		promise("redrives move a letter once",
			"Of several redrives at the same time each moves other dead letters, and all of them are moved.",
			needsDeadLetterStore, redrivesMoveOnce),
		promise("no condition holds a redrive back",
			"A message that was stored once, or that has the key of one that waits, comes again when it is redriven.",
			needsDeadLetterStore|needsConditions, conditionHoldsNoRedriveBack),
		promise("a leased dead letter is busy",
			"A dead letter that a consumer is handling is neither redriven nor edited, and is counted; a purge deletes it.",
			needsDeadLetterStore, leasedDeadLetterIsBusy),
		promise("a purge deletes what is chosen",
			"Purged dead letters are gone, up to the limit; all others stay.",
			needsDeadLetterStore, purgeDeletesWhatIsChosen),
		promise("other messages stay among dead letters",
			"What does not say that it came from the topic is neither redriven nor purged, and an error says so; nor is it edited.",
			needsDeadLetterStore, strayStays),
		promise("an edit replaces the payload",
			"An edited dead letter has the new payload, and says who has edited it and when, also after its redrive.",
			needsDeadLetterStore, editReplacesPayload),
		promise("an edit of what has changed is refused",
			"An edit of a dead letter that has another payload by now, or is gone, changes nothing and says what is there; so does one that is no JSON or has no author.",
			needsDeadLetterStore, staleEditIsRefused),
		promise("an impossible selection of dead letters is refused",
			"A selection of dead letters that cannot match is an error, and nothing is done.",
			needsDeadLetterStore, impossibleDeadLettersAreRefused),
	)
}

// deadLetterCase is a case about a topic with dead letters.
type deadLetterCase struct {
	*harness
	p           *peer
	topic, dead string
	in          *inbox // of the topic
	letters     int
}

func newDeadLetterCase(h *harness) *deadLetterCase {
	g := &deadLetterCase{harness: h, p: connect(h, PeerConfig{}), topic: h.topic()}
	g.dead = g.topic + backend.DeadLetterSuffix
	g.p.initialize(g.dead)
	g.in = g.p.subscribe(g.topic)
	return g
}

func (g *deadLetterCase) store() backend.DeadLetterStore {
	store, ok := g.p.Publisher.(backend.DeadLetterStore)
	g.require(ok, "the publisher is no backend.DeadLetterStore")
	return store
}

// deadLetter publishes a message, dead-letters it, and waits until it is a dead letter.
func (g *deadLetterCase) deadLetter(msg *message.Message, handler, reason string) {
	g.p.send(g.topic, msg)
	g.deadLetterReceived(g.in.receive(), handler, reason)
}

// deadLetterReceived makes a message that was received a dead letter, and waits until it is one.
func (g *deadLetterCase) deadLetterReceived(msg *message.Message, handler, reason string) {
	g.require(backend.DeadLetter(msg, backend.DeadLetterTarget{Topic: g.dead, Metadata: backend.DeadLetterMetadata(g.topic, handler, 3, errors.New(reason))}),
		"DeadLetter returned false for a message that was not settled")
	g.letters++
	g.awaitLetters(g.letters)
}

func (g *deadLetterCase) awaitLetters(n int) {
	deadline := time.Now().Add(g.timeout)
	for len(g.list(backend.DeadLetterSelection{Limit: n + 1})) != n {
		g.require(time.Now().Before(deadline), "there are not %d dead letters %v later", n, g.timeout)
		time.Sleep(10 * time.Millisecond)
	}
}

func (g *deadLetterCase) list(s backend.DeadLetterSelection) (found []backend.FoundDeadLetter) {
	g.must("DeadLetters", func() (err error) {
		found, err = g.store().DeadLetters(g.ctx, g.dead, s)
		return err
	})
	return found
}

func (g *deadLetterCase) redrive(s backend.DeadLetterSelection) (done backend.Redriven) {
	g.must("Redrive", func() (err error) {
		done, err = g.store().Redrive(g.ctx, g.dead, s)
		return err
	})
	return done
}

func (g *deadLetterCase) purge(s backend.DeadLetterSelection) (done backend.Purged) {
	g.must("PurgeDeadLetters", func() (err error) {
		done, err = g.store().PurgeDeadLetters(g.ctx, g.dead, s)
		return err
	})
	return done
}

func (g *deadLetterCase) edit(e backend.DeadLetterEdit) error {
	return g.call("EditDeadLetter", func() error { return g.store().EditDeadLetter(g.ctx, g.dead, e) })
}

// requireListed ends the case unless a selection chooses the messages of these labels.
func (g *deadLetterCase) requireListed(what string, s backend.DeadLetterSelection, labels ...string) {
	var got []string
	for _, letter := range g.list(s) {
		got = append(got, g.label(message.NewMessage(letter.ID, letter.Payload)))
	}
	g.require(slices.Equal(got, labels), "%s lists %q instead of %q", what, got, labels)
}

// named is a message of an event with a tenant.
func (g *deadLetterCase) named(label, event, tenant string) *message.Message {
	msg := g.message(label)
	msg.Metadata = message.Metadata{"name": event, "tenant": tenant}
	return msg
}

func deadLettersAreListed(h *harness) {
	g := newDeadLetterCase(h)
	sent := g.named("a", "Paid", "x")
	want := sent.Copy()
	g.deadLetter(sent, "mail", "no such user")
	g.deadLetter(h.message("b"), "mail", "no such user")
	g.deadLetter(h.message("c"), "mail", "no such user")
	first := g.list(backend.DeadLetterSelection{Limit: 1})
	h.require(len(first) == 1, "%d dead letters are listed instead of one", len(first))
	d := first[0]
	requireSame(h, &message.Message{UUID: d.ID, Payload: d.Payload, Metadata: d.Metadata}, want)
	h.require(d.Err == nil && d.Topic == g.topic && d.Handler == "mail" && d.Reason == "no such user" && d.Failures == 3 && d.Event == "Paid",
		"a dead letter says %+v", d)
	h.require(time.Since(d.At).Abs() <= tolerance(h)+time.Second+slack, "it is said to be %v old", time.Since(d.At))
	g.requireListed("the next page", backend.DeadLetterSelection{After: d.Row, Limit: 1}, "b")
	g.requireListed("the zero selection", backend.DeadLetterSelection{}, "a", "b", "c")
}

func selectionChoosesDeadLetters(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(g.named("a", "Paid", "x"), "mail", "order 17: declined")
	g.deadLetter(g.named("b", "Sent", "y"), "audit", "timeout (1)")
	rows := g.list(backend.DeadLetterSelection{})
	a := h.message("a").UUID
	for what, s := range map[string]backend.DeadLetterSelection{
		"its row": {Rows: []int64{rows[0].Row}}, "its ID": {ID: a}, "its handler": {Handler: "mail"}, "its event": {Event: "Paid"}, "its header": {Header: "tenant", Value: "x"},
		"a part of its reason": {Reason: "17: dec"}, "a # for a number": {Reason: "order #: declined"},
		"all of it": {Topics: []string{g.topic}, Rows: []int64{rows[0].Row, 1 << 40}, ID: a, Handler: "mail", Event: "Paid", Header: "tenant", Value: "x", Reason: "#"},
	} {
		if what != "all of it" {
			s.From, s.To = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		}
		g.requireListed(what, s, "a")
	}
	for what, s := range map[string]backend.DeadLetterSelection{
		"no row": {Rows: []int64{1 << 40}}, "another ID": {ID: "another"}, "the ID of one and the handler of the other": {ID: a, Handler: "audit"}, "another value": {Header: "tenant", Value: "X"},
		"another event": {Event: "paid"}, "an expression": {Reason: "order .*"}, "another topic": {Topics: []string{h.topic()}}, "a group": {Group: "g"},
		"a time that is over": {To: time.Now().Add(-time.Hour)}, "a time to come": {From: time.Now().Add(time.Hour)},
	} {
		g.requireListed(what, s)
	}
	g.requireListed("what stands for itself", backend.DeadLetterSelection{Reason: "timeout (#)"}, "b")
}

func deadLettersAreCounted(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(g.named("a", "Paid", "x"), "mail", "order 17: declined")
	g.deadLetter(g.named("b", "Paid", "x"), "mail", "order 4711: declined")
	g.deadLetter(g.named("c", "Paid", "x"), "audit", "timeout")
	count := func(s backend.DeadLetterSelection) (counts []backend.DeadLetterCount) {
		h.must("CountDeadLetters", func() (err error) {
			counts, err = g.store().CountDeadLetters(h.ctx, g.dead, s)
			return err
		})
		for i, c := range counts {
			h.require(!c.Oldest.After(c.Newest) && time.Since(c.Oldest).Abs() <= 3*h.timeout, "they are said to be of %v to %v", c.Oldest, c.Newest)
			counts[i].Oldest, counts[i].Newest = time.Time{}, time.Time{}
		}
		return counts
	}
	two := backend.DeadLetterCount{Topic: g.topic, Handler: "mail", Event: "Paid", Reason: "order #: declined", Letters: 2}
	one := backend.DeadLetterCount{Topic: g.topic, Handler: "audit", Event: "Paid", Reason: "timeout", Letters: 1}
	got := count(backend.DeadLetterSelection{})
	h.require(slices.Equal(got, []backend.DeadLetterCount{two, one}), "they are counted as %+v", got)
	got = count(backend.DeadLetterSelection{Limit: 1})
	h.require(slices.Equal(got, []backend.DeadLetterCount{two, {Rest: true, Letters: 1}}), "with a limit they are counted as %+v", got)
	got = count(backend.DeadLetterSelection{Reason: two.Reason})
	h.require(slices.Equal(got, []backend.DeadLetterCount{two}), "by the reason of a count they are counted as %+v", got)
}

func redriveMovesWhatIsChosen(h *harness) {
	g := newDeadLetterCase(h)
	sent := g.named("b", "Paid", "x")
	want := sent.Copy()
	g.deadLetter(h.message("a"), "mail", "r")
	g.deadLetter(sent, "mail", "r")
	g.deadLetter(h.message("c"), "mail", "r")
	done := g.redrive(backend.DeadLetterSelection{ID: sent.UUID})
	requireChanged(h, "moved", done.Moved, done.Busy, 1, 0)
	back := g.in.receive()
	requireSame(h, back, want)
	h.require(maps.Equal(back.Metadata, want.Metadata), "the metadata of a redriven message are %q", back.Metadata)
	d := deliveryOf(h, back)
	h.require(d.Failures == 0 && len(d.Done) == 0, "a redriven message has %d failures, and %q are done", d.Failures, d.Done)
	h.require(!h.promises.Attempts || d.Number == 1, "a redriven message comes in delivery %d", d.Number)
	h.ack(back)
	g.requireListed("what stays", backend.DeadLetterSelection{}, "a", "c")
	done = g.redrive(backend.DeadLetterSelection{Limit: 1})
	requireChanged(h, "moved", done.Moved, done.Busy, 1, 0)
	h.ack(g.in.expect("a"))
	g.requireListed("what is beyond the limit", backend.DeadLetterSelection{}, "c")
	g.in.none(quietPeriod, "it was not chosen")
}

func redrivenExpiresNoMore(h *harness) {
	g := newDeadLetterCase(h)
	expiry := time.Now().Add(time.Hour).UTC().Format(time.RFC3339Nano)
	for _, label := range []string{"a", "b"} {
		msg := g.named(label, "Paid", "x")
		msg.Metadata.Set(backend.ExpiresAt, expiry)
		g.deadLetter(msg, "mail", "no such user")
	}
	first := g.list(backend.DeadLetterSelection{Limit: 1})[0]
	h.require(first.Metadata[backend.ExpiresAt] == expiry, "a dead letter that has failed says that it expires at %q instead of %q", first.Metadata[backend.ExpiresAt], expiry)
	h.must("EditDeadLetter", func() error {
		return g.store().EditDeadLetter(h.ctx, g.dead, backend.DeadLetterEdit{Row: first.Row, Version: first.Version(), Payload: []byte(`7`), By: "ada"})
	})
	done := g.redrive(backend.DeadLetterSelection{})
	requireChanged(h, "moved", done.Moved, done.Busy, 2, 0)
	for range 2 {
		back := g.in.receive()
		at, has := back.Metadata[backend.ExpiresAt]
		h.require(!has, "a redriven message expires at %q", at)
		h.require(back.Metadata["tenant"] == "x", "the metadata of a redriven message are %q", back.Metadata)
		h.ack(back)
	}
}

func redrivesMoveOnce(h *harness) {
	const letters, calls = 12, 4
	g := newDeadLetterCase(h)
	for _, label := range numbered(letters) {
		g.deadLetter(h.message(label), "mail", "r")
	}
	moved := make(chan int, calls)
	for range calls {
		go func() {
			done, _ := g.store().Redrive(h.ctx, g.dead, backend.DeadLetterSelection{}) // what it reports is added up
			moved <- done.Moved
		}()
	}
	total := 0
	for range calls {
		total += <-moved
	}
	total += g.redrive(backend.DeadLetterSelection{}).Moved // of what the calls have kept from each other
	h.require(total == letters, "%d dead letters are said to be moved instead of %d", total, letters)
	g.in.ackAll(numbered(letters)...)
	g.in.none(quietPeriod, "it was moved once")
}

func conditionHoldsNoRedriveBack(h *harness) {
	g := newDeadLetterCase(h)
	once, first, second := h.message("once"), h.message("first"), h.message("second")
	publishOn(g.p, g.topic, once, &backend.PublishCondition{Once: true})
	g.deadLetterReceived(g.in.receive(), "mail", "r")
	publishOn(g.p, g.topic, first, &backend.PublishCondition{UniqueKey: "k"})
	g.deadLetterReceived(g.in.receive(), "mail", "r")
	publishUntilStored(g.p, g.topic, "second", "k", "after the first one was dead-lettered")
	done := g.redrive(backend.DeadLetterSelection{})
	requireChanged(h, "moved", done.Moved, done.Busy, 2, 0)
	g.in.ackAll("once", "first", h.label(second))
}

func leasedDeadLetterIsBusy(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(h.message("a"), "mail", "r")
	letter := g.list(backend.DeadLetterSelection{})[0]
	held := g.p.subscribe(g.dead).expect("a")
	done := g.redrive(backend.DeadLetterSelection{})
	requireChanged(h, "moved", done.Moved, done.Busy, 0, 1)
	conflict, ok := errors.AsType[*backend.EditConflictError](g.edit(backend.DeadLetterEdit{Row: letter.Row, Version: letter.Version(), Payload: []byte(`1`), By: "ada"}))
	h.require(ok && conflict.Busy, "an edit of a dead letter that is being handled ends with %v", conflict)
	g.in.none(quietPeriod, "it is being handled as a dead letter")
	h.require(g.purge(backend.DeadLetterSelection{}).Removed == 1, "a dead letter that is being handled is not deleted")
	h.ack(held)
	g.requireListed("the zero selection", backend.DeadLetterSelection{})
}

func purgeDeletesWhatIsChosen(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(h.message("a"), "mail", "order 1 declined")
	g.deadLetter(h.message("b"), "mail", "timeout")
	g.deadLetter(h.message("c"), "mail", "order 2 declined")
	g.deadLetter(h.message("d"), "mail", "order 3 declined")
	done := g.purge(backend.DeadLetterSelection{Reason: "order # declined", Limit: 2})
	requireChanged(h, "deleted", done.Removed, done.Busy, 2, 0)
	g.requireListed("what stays", backend.DeadLetterSelection{}, "b", "d")
	g.in.none(quietPeriod, "it was deleted")
}

func strayStays(h *harness) {
	g := newDeadLetterCase(h)
	g.p.publish(g.dead, "stray")
	g.awaitLetters(1)
	letter := g.list(backend.DeadLetterSelection{})[0]
	h.require(letter.Err != nil, "a message that is no dead letter is listed as one: %+v", letter)
	for what, do := range map[string]func() error{
		"Redrive": func() error { _, err := g.store().Redrive(h.ctx, g.dead, backend.DeadLetterSelection{}); return err },
		"PurgeDeadLetters": func() error {
			_, err := g.store().PurgeDeadLetters(h.ctx, g.dead, backend.DeadLetterSelection{})
			return err
		},
		"EditDeadLetter": func() error {
			return g.store().EditDeadLetter(h.ctx, g.dead, backend.DeadLetterEdit{Row: letter.Row, Version: letter.Version(), Payload: []byte("1"), By: "ada"})
		},
	} {
		err := h.call(what, do)
		h.requireRefusal(err)
		h.require(err != nil, "%s does not say that there is a message that is no dead letter", what)
	}
	g.requireListed("the zero selection", backend.DeadLetterSelection{}, "stray")
	g.in.none(quietPeriod, "it is no dead letter")
}

func editReplacesPayload(h *harness) {
	g := newDeadLetterCase(h)
	sent := g.named("a", "Paid", "x")
	g.deadLetter(sent, "mail", "r")
	letter := g.list(backend.DeadLetterSelection{})[0]
	const payload = `{"order":7}`
	h.must("EditDeadLetter", func() error {
		return g.store().EditDeadLetter(h.ctx, g.dead, backend.DeadLetterEdit{Row: letter.Row, Version: letter.Version(), Payload: []byte(payload), By: "ada"})
	})
	requireEdited := func(what, id string, got []byte, metadata message.Metadata) {
		h.require(id == letter.ID && sameJSON(got, payload), "%s has the ID %q and the payload %.80q", what, id, got)
		at, err := time.Parse(time.RFC3339, metadata[backend.EditedAt])
		h.require(metadata[backend.EditedBy] == "ada" && err == nil && time.Since(at).Abs() <= tolerance(h)+time.Second+slack, "%s says of its edit %q", what, metadata)
		h.require(metadata["tenant"] == "x", "%s has the metadata %q", what, metadata)
	}
	edited := g.list(backend.DeadLetterSelection{})[0]
	requireEdited("an edited dead letter", edited.ID, edited.Payload, edited.Metadata)
	h.require(edited.Reason == "r" && edited.Row == letter.Row, "an edited dead letter says %+v", edited)
	g.redrive(backend.DeadLetterSelection{})
	back := g.in.receive()
	requireEdited("a redriven message", back.UUID, back.Payload, back.Metadata)
	h.ack(back)
}

func sameJSON(got []byte, want string) bool {
	var compact json.RawMessage
	if json.Unmarshal(got, &compact) != nil {
		return false
	}
	text, err := json.Marshal(compact)
	return err == nil && string(text) == want
}

func staleEditIsRefused(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(h.message("a"), "mail", "r")
	letter := g.list(backend.DeadLetterSelection{})[0]
	edit := backend.DeadLetterEdit{Row: letter.Row, Version: letter.Version(), Payload: []byte(`1`), By: "ada"}
	refuse := func(what string, bad backend.DeadLetterEdit) {
		err := g.edit(bad)
		h.requireRefusal(err)
		_, ok := errors.AsType[*backend.RefusedError](err)
		h.require(ok, "an edit %s ends with %v", what, err)
	}
	broken, silent, blind := edit, edit, edit
	broken.Payload, silent.By, blind.Version = []byte(`{"a":`), " ", ""
	refuse("that is no JSON", broken)
	refuse("without an author", silent)
	refuse("without a version", blind)
	g.requireListed("what no edit has changed", backend.DeadLetterSelection{}, "a")
	h.must("EditDeadLetter", func() error { return g.store().EditDeadLetter(h.ctx, g.dead, edit) })
	edit.Payload = []byte(`2`)
	conflict, ok := errors.AsType[*backend.EditConflictError](g.edit(edit))
	h.require(ok && conflict.Found != nil && string(conflict.Found.Payload) == `1`, "a second edit of the same version ends with %v", conflict)
	h.require(string(g.list(backend.DeadLetterSelection{})[0].Payload) == `1`, "an edit that was refused has changed the payload")
	g.purge(backend.DeadLetterSelection{})
	conflict, ok = errors.AsType[*backend.EditConflictError](g.edit(edit))
	h.require(ok && conflict.Found == nil && !conflict.Busy, "an edit of a dead letter that is gone ends with %v", conflict)
}

func impossibleDeadLettersAreRefused(h *harness) {
	g := newDeadLetterCase(h)
	g.deadLetter(h.message("a"), "mail", "r")
	for _, s := range []backend.DeadLetterSelection{
		{Limit: -1}, {Value: "x"}, {Header: "ezq_uuid", Value: "x"}, {ID: "\x00"}, {From: time.Now(), To: time.Now().Add(-time.Hour)}, {Topics: []string{""}}, {Rows: []int64{}},
	} {
		for what, do := range map[string]func() error{
			"DeadLetters":      func() error { _, err := g.store().DeadLetters(h.ctx, g.dead, s); return err },
			"CountDeadLetters": func() error { _, err := g.store().CountDeadLetters(h.ctx, g.dead, s); return err },
			"Redrive":          func() error { _, err := g.store().Redrive(h.ctx, g.dead, s); return err },
			"PurgeDeadLetters": func() error { _, err := g.store().PurgeDeadLetters(h.ctx, g.dead, s); return err },
		} {
			err := h.call(what, do)
			h.requireRefusal(err)
			h.require(err != nil, "%s accepted a selection that cannot be", what)
		}
	}
	g.requireListed("the zero selection", backend.DeadLetterSelection{}, "a")
}
