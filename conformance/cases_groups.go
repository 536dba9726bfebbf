package conformance

import (
	"strconv"
	"time"
)

func groups() []Case {
	return theme("groups",
		promise("each group gets everything",
			"Every message arrives in every group.",
			needsGroups, eachGroupGetsAll),
		promise("a group shares its messages",
			"A message arrives at one of the consumers of a group, and at one only.",
			needsGroups, groupShares),
		promise("a group keeps its place",
			"A group that has subscribed once also gets what is published while none of its consumers is there.",
			needsGroups|needsDurable, groupKeepsPlace),
		promise("a nack concerns its group",
			"A message that is nacked comes back to the group that did so, and to no other.",
			needsGroups, nackConcernsGroup),
		promise("a group that lags holds up no other",
			"While one group settles nothing, another gets everything.",
			needsGroups, slowGroup),
		promise("a group may come at any time",
			"A group that comes while others publish gets everything whose publish began after its Subscribe had returned, and takes nothing away from others.",
			needsGroups, groupComesLate),
	)
}

func eachGroupGetsAll(h *harness) {
	topic := h.topic()
	one, two := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"})
	first, second := one.subscribe(topic), two.subscribe(topic)
	one.publish(topic, numbered(20)...)
	first.ackAll(numbered(20)...)
	second.ackAll(numbered(20)...)
}

func groupShares(h *harness) {
	topic := h.topic()
	one, two := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "one"})
	ins := [2]*inbox{one.subscribe(topic), two.subscribe(topic)}
	one.publish(topic, numbered(20)...)
	came := map[string]bool{}
	for range 20 {
		msg := receiveEither(h, ins)
		h.require(!came[h.label(msg)], "%q came twice in one group, although it was acked", h.label(msg))
		came[h.label(msg)] = true
		h.ack(msg)
	}
	ins[0].none(quietPeriod, "it had come to the group before")
	ins[1].none(quietPeriod, "it had come to the group before")
}

func groupKeepsPlace(h *harness) {
	topic := h.topic()
	member := connect(h, PeerConfig{Group: "one"})
	member.subscribe(topic)
	member.mustClose()
	connect(h, PeerConfig{}).publish(topic, numbered(20)...)
	connect(h, PeerConfig{Group: "one"}).subscribe(topic).ackAll(numbered(20)...)
}

func nackConcernsGroup(h *harness) {
	topic := h.topic()
	one, two := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"})
	first, second := one.subscribe(topic), two.subscribe(topic)
	one.publish(topic, "a")
	h.ack(second.expect("a"))
	for range 3 {
		h.nack(first.expect("a"))
	}
	h.ack(first.expect("a"))
	second.none(quietPeriod, "it was acked here, and nacked in another group")
}

func slowGroup(h *harness) {
	topic := h.topic()
	lagging, other := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"})
	lagging.subscribe(topic) // and receives nothing
	in := other.subscribe(topic)
	other.publish(topic, "first")
	in.ackAll("first")
	time.Sleep(quietPeriod) // so that the first one has been fetched for the group that lags
	other.publish(topic, numbered(150)...)
	in.ackAll(numbered(150)...)
}

func groupComesLate(h *harness) {
	topic := h.topic()
	before := connect(h, PeerConfig{Group: "before"}).subscribe(topic)
	publisher, late := connect(h, PeerConfig{}), connect(h, PeerConfig{Group: "late"})
	subscribed, counts := make(chan struct{}), make(chan [2]int, 1)
	publisher.publish(topic, "0")
	go func() {
		const most, more = 1000, 20
		from, n := 0, 1
		for ; from == 0 || n < from+more; n++ {
			if n == most {
				<-subscribed
			}
			select {
			case <-subscribed:
				if from == 0 {
					from = n
				}
			default:
			}
			publisher.publish(topic, strconv.Itoa(n))
		}
		counts <- [2]int{from, n}
	}()
	in := late.subscribe(topic)
	close(subscribed)
	published := next(h, counts, "publishing did not end")
	from, n := published[0], published[1]
	before.ackAll(numbered(n)...)
	missing := setOf(numbered(n)[from:])
	for len(missing) > 0 {
		msg := in.within(h.timeout)
		h.require(msg != nil, "%d of %d messages did not come to the group that came late within %v, among them %s", len(missing), n-from, h.timeout, anyOf(missing))
		delete(missing, h.label(msg)) // what was published before may come, too
		h.ack(msg)
	}
}
