package conformance

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

func peeks() []Case {
	return theme("peeks",
		promise("a peek shows what is due next",
			"A peek shows the messages of a queue as they were published, first those that wait, then the delayed ones in the order in which they are due.",
			needsInspection|needsDelay, peekShowsWhatIsNext),
		promise("a peek goes page by page",
			"A peek shows no more messages than its limit, or 20; with the After of the last one, the next peek shows the next ones, until there are none.",
			needsInspection, peekGoesPageByPage),
		promise("a peek takes nothing",
			"What was looked at, again and again, waits as before, and comes at once, in its first delivery.",
			needsInspection, peekTakesNothing),
		promise("a peek tells states",
			"A peek tells of a message whether it waits, has been delivered, or is a dead letter, and how often it was delivered.",
			needsInspection|needsDeadLetter, peekTellsStates),
		promise("a peek is bounded",
			"A peek leaves out a payload that is larger than MaxFoundPayload, and those behind MaxPeekPayloads; about how large these are is told.",
			needsInspection, peekIsBounded),
		promise("a peek knows groups apart",
			"A peek shows the messages of the group that it names and of no other, and without a group those of the topic's own queue.",
			needsInspection|needsGroups, peekKnowsGroupsApart),
		promise("a peek into the queue of a pattern says the topics",
			"The messages of a group that takes a pattern are counted and shown by the name of the pattern, and each says the topic that it was published to.",
			needsInspection|needsGroups|needsPatterns, peekSaysTopics),
		promise("what does not exist has no messages",
			"A peek into a topic or a group that does not exist shows nothing, returns no error, and creates no queue.",
			needsInspection, peekIntoNothing),
		promise("an impossible peek is refused",
			"A peek with a limit, a group, a topic or an After that cannot be is an error.",
			needsInspection, impossiblePeekIsRefused),
	)
}

func peek(p *peer, topic string, chosen backend.Peek) (found []backend.Peeked) {
	p.h.must("Peek", func() (err error) {
		found, err = inspectorOf(p).Peek(p.h.ctx, topic, chosen)
		return err
	})
	return found
}

// idsOf returns the IDs of messages.
func idsOf(found []backend.Peeked) (ids []string) {
	for _, f := range found {
		ids = append(ids, f.ID)
	}
	return ids
}

func peekShowsWhatIsNext(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	begin := time.Now()
	sent := []*message.Message{h.message("first"), h.message("second"), h.delayed("in an hour", time.Hour), h.delayed("in two hours", 2*time.Hour)}
	sent[0].Metadata.Set("tenant", "x")
	for _, i := range []int{3, 0, 2, 1} {
		one.send(topic, sent[i])
		time.Sleep(2 * time.Millisecond) // for a clock that has no less
	}
	found := peek(two, topic, backend.Peek{})
	h.require(len(found) == len(sent), "%d messages are shown instead of %d", len(found), len(sent))
	for i, f := range found {
		want := sent[i].Copy()
		backend.ClearDelay(want.Metadata)
		h.require(f.Err == nil, "a message cannot be read: %v", f.Err)
		requireSame(h, &message.Message{UUID: f.ID, Payload: f.Payload, Metadata: f.Metadata}, want)
		state, due := backend.StateWaiting, time.Duration(0)
		if i >= 2 {
			state, due = backend.StateDelayed, time.Duration(i-1)*time.Hour
		}
		h.require(f.Place == backend.InTopic && f.State == state && f.Deliveries == 0, "%q is shown in the place %q, as %q, after %d deliveries", f.ID, f.Place, f.State, f.Deliveries)
		h.require(f.VisibleAt.Sub(begin.Add(due)).Abs() <= tolerance(h)+slack, "%q is said to be due after %v instead of %v", f.ID, f.VisibleAt.Sub(begin), due)
		h.require(f.PublishedAt.Sub(begin).Abs() <= tolerance(h)+slack, "%q is said to be published %v after it was", f.ID, f.PublishedAt.Sub(begin))
	}
}

func peekGoesPageByPage(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	labels := numbered(25)
	one.publish(topic, labels...)
	var all []string
	for _, msg := range h.messages(labels...) {
		all = append(all, msg.UUID)
	}
	slices.Sort(all)
	for limit, pages := range map[int][]int{0: {backend.DefaultPeekLimit, 5, 0}, 10: {10, 10, 5, 0}, backend.MaxPeekLimit: {25, 0}} {
		after := ""
		var seen []string
		for i, want := range pages {
			found := peek(two, topic, backend.Peek{After: after, Limit: limit})
			h.require(len(found) == want, "with the limit %d, the page %d has %d messages instead of %d", limit, i+1, len(found), want)
			if seen = append(seen, idsOf(found)...); want > 0 {
				after = found[want-1].After
			}
		}
		slices.Sort(seen)
		h.require(slices.Equal(seen, all), "with the limit %d, these were shown instead of each message once: %q", limit, seen)
	}
}

func peekTakesNothing(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	one.initialize(topic)
	one.publish(topic, "a", "b")
	for range 5 {
		h.require(len(peek(two, topic, backend.Peek{})) == 2, "not both messages are shown")
		state, _ := stateIn(h, queueStates(two), topic, "")
		h.require(state.Waiting == 2 && state.Invisible == 0, "%d messages wait and %d do not, when two were looked at", state.Waiting, state.Invisible)
	}
	ackFirstDeliveries(one.subscribe(topic), "a", "b")
}

// awaitPeeked waits until a queue has one message, and that is in a place and a state.
func awaitPeeked(p *peer, topic string, place backend.Place, state backend.State, deliveries int) {
	for deadline := time.Now().Add(p.h.timeout); ; time.Sleep(10 * time.Millisecond) {
		found := peek(p, topic, backend.Peek{})
		if len(found) == 1 && found[0].Place == place && found[0].State == state && found[0].Deliveries == deliveries {
			return
		}
		p.h.require(time.Now().Before(deadline), "it is not shown in the place %q as %q, but so: %+v", place, state, found)
	}
}

func peekTellsStates(h *harness) {
	one, two, topic := connect(h, PeerConfig{}), connect(h, PeerConfig{}), h.topic()
	dead := topic + backend.DeadLetterSuffix
	one.initialize(topic)
	one.initialize(dead)
	one.publish(topic, "a")
	awaitPeeked(two, topic, backend.InTopic, backend.StateWaiting, 0)
	msg := one.subscribe(topic).expect("a")
	awaitPeeked(two, topic, backend.InTopic, backend.StateDelivered, 1)
	giveUp(h, msg, dead)
	awaitPeeked(two, dead, backend.InDeadLetters, backend.StateDead, 0)
	h.require(len(peek(two, topic, backend.Peek{})) == 0, "a dead letter is shown where it was")
}

func peekIsBounded(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	quoted := func(size int) []byte { return []byte(`"` + strings.Repeat("x", size-2) + `"`) }
	const fit = backend.MaxPeekPayloads / backend.MaxFoundPayload
	sizes := []int{backend.MaxFoundPayload + 1}
	for range fit + 3 {
		sizes = append(sizes, backend.MaxFoundPayload)
	}
	for i, size := range sizes {
		p.send(topic, message.NewMessage(h.id+strconv.Itoa(i), quoted(size)))
		time.Sleep(2 * time.Millisecond)
	}
	found := peek(p, topic, backend.Peek{Limit: backend.MaxPeekLimit})
	h.require(len(found) == len(sizes), "%d messages are shown instead of %d", len(found), len(sizes))
	total := 0
	for i, f := range found {
		total += len(f.Payload)
		h.require(f.Err == nil, "the message %d cannot be read: %v", i, f.Err)
		h.require(f.Size >= sizes[i]/2 && f.Size <= 2*sizes[i], "the message %d is said to have %d bytes, and it has %d", i, f.Size, sizes[i])
	}
	h.require(found[0].Payload == nil, "a payload of %d bytes is shown", len(found[0].Payload))
	h.require(total <= backend.MaxPeekPayloads, "payloads of %d bytes are shown together", total)
	h.require(total == fit*backend.MaxFoundPayload, "payloads of %d bytes are shown together, and there was room for more", total)
}

func peekKnowsGroupsApart(h *harness) {
	topic := h.topic()
	one, two, look := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"}), connect(h, PeerConfig{})
	one.initialize(topic)
	two.initialize(topic)
	sent := h.message("a")
	look.send(topic, sent)
	h.ack(two.subscribe(topic).expect("a"))
	awaitCounts(look, topic, "two", 0, 0, "when the group has acked all")
	for group, want := range map[string]int{"one": 1, "two": 0, "three": 0, "": 0} {
		found := peek(look, topic, backend.Peek{Group: group})
		h.require(len(found) == want, "%d messages of the group %q are shown instead of %d", len(found), group, want)
		for _, f := range found {
			h.require(f.ID == sent.UUID && f.Place == backend.InGroup, "the message %q is shown in the place %q", f.ID, f.Place)
		}
	}
}

func peekSaysTopics(h *harness) {
	topic, look := h.topic(), connect(h, PeerConfig{})
	connect(h, PeerConfig{Group: "one"}).initialize(topic + ".*")
	connect(h, PeerConfig{Group: "two"}).initialize(topic + ".a")
	publishEach(h, look, topic+".a", topic+".b")
	awaitCounts(look, topic+".*", "one", 2, 0, "when messages were published to two topics that the pattern matches")
	found := peek(look, topic+".*", backend.Peek{Group: "one"})
	h.require(len(found) == 2, "%d messages are shown instead of 2", len(found))
	for _, f := range found {
		published := strings.TrimPrefix(string(f.Payload), h.id+"-")
		h.require(f.PublishedTo == published && f.Place == backend.InGroup, "a message of %q says that it was published to %q, and is in the place %q", published, f.PublishedTo, f.Place)
	}
	exact := peek(look, topic+".a", backend.Peek{Group: "two"})
	h.require(len(exact) == 1 && exact[0].PublishedTo == "", "what did not come by a pattern says a topic, or is not shown: %+v", exact)
}

func peekIntoNothing(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	for _, chosen := range []backend.Peek{{}, {Group: "one"}, {Limit: 1, After: backend.FirstPeekPlace().String()}} {
		h.require(len(peek(p, topic, chosen)) == 0, "a topic that does not exist has messages")
	}
	for _, s := range queueStates(p) {
		h.require(s.Topic != topic, "a queue has come into being because it was looked at")
	}
}

func impossiblePeekIsRefused(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	p.publish(topic, "a")
	refuse := func(topic string, bad backend.Peek) {
		err := h.call("Peek", func() error { _, err := inspectorOf(p).Peek(h.ctx, topic, bad); return err })
		h.requireRefusal(err)
		h.require(err != nil, "the peek %+v into %q is accepted", bad, topic)
	}
	for _, bad := range []backend.Peek{{Limit: -1}, {Limit: backend.MaxPeekLimit + 1}, {Group: "\x00"}, {After: "behind"}} {
		refuse(topic, bad)
	}
	refuse("", backend.Peek{})
	refuse("\x00", backend.Peek{})
	h.require(len(peek(p, topic, backend.Peek{})) == 1, "the message that was published is not shown")
}
