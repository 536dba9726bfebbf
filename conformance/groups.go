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
			needsGroups, laggingGroup),
		promise("a group may come at any time",
			"A group that comes while others publish gets everything whose publish began after its Subscribe had returned, and takes nothing away from others.",
			needsGroups, groupComesLate),
	)
}

func eachGroupGetsAll(b *bench) {
	topic := b.topic()
	one, two := b.connect(Options{Group: "one"}), b.connect(Options{Group: "two"})
	first, second := one.subscribe(topic), two.subscribe(topic)
	one.publish(topic, numbered(20)...)
	first.ackAll(numbered(20)...)
	second.ackAll(numbered(20)...)
}

func groupShares(b *bench) {
	topic := b.topic()
	one, two := b.connect(Options{Group: "one"}), b.connect(Options{Group: "one"})
	ins := [2]*inbox{one.subscribe(topic), two.subscribe(topic)}
	one.publish(topic, numbered(20)...)
	came := map[string]bool{}
	for range 20 {
		msg := b.either(ins)
		b.require(!came[b.label(msg)], "%q came twice in one group, although it was acked", b.label(msg))
		came[b.label(msg)] = true
		b.ack(msg)
	}
	ins[0].none(moment, "it had come to the group before")
	ins[1].none(moment, "it had come to the group before")
}

func groupKeepsPlace(b *bench) {
	topic := b.topic()
	member := b.connect(Options{Group: "one"})
	member.subscribe(topic)
	member.mustClose()
	b.connect(Options{}).publish(topic, numbered(20)...)
	b.connect(Options{Group: "one"}).subscribe(topic).ackAll(numbered(20)...)
}

func nackConcernsGroup(b *bench) {
	topic := b.topic()
	one, two := b.connect(Options{Group: "one"}), b.connect(Options{Group: "two"})
	first, second := one.subscribe(topic), two.subscribe(topic)
	one.publish(topic, "a")
	b.ack(second.expect("a"))
	for range 3 {
		b.nack(first.expect("a"))
	}
	b.ack(first.expect("a"))
	second.none(moment, "it was acked here, and nacked in another group")
}

func laggingGroup(b *bench) {
	topic := b.topic()
	lagging, other := b.connect(Options{Group: "one"}), b.connect(Options{Group: "two"})
	lagging.subscribe(topic) // and receives nothing
	in := other.subscribe(topic)
	other.publish(topic, "first")
	in.ackAll("first")
	time.Sleep(moment) // so that the first one has been fetched for the group that lags
	other.publish(topic, numbered(150)...)
	in.ackAll(numbered(150)...)
}

func groupComesLate(b *bench) {
	topic := b.topic()
	before := b.connect(Options{Group: "before"}).subscribe(topic)
	publisher, late := b.connect(Options{}), b.connect(Options{Group: "late"})
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
	published := next(b, counts, "publishing did not end")
	from, n := published[0], published[1]
	before.ackAll(numbered(n)...)
	missing := map[string]bool{}
	for _, label := range numbered(n)[from:] {
		missing[label] = true
	}
	for len(missing) > 0 {
		msg := in.within(b.patience)
		b.require(msg != nil, "%d of %d messages did not come to the group that came late within %v, among them %s", len(missing), n-from, b.patience, anyOf(missing))
		delete(missing, b.label(msg)) // what was published before may come, too
		b.ack(msg)
	}
}
