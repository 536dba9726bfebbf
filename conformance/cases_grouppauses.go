package conformance

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

func groupPauses() []Case {
	return theme("group pauses",
		promise("a group's pause stops that group alone",
			"While one group of a topic is paused, no process hands over anything to it, and the others go on; once it is resumed, all comes that was published, in its first delivery.",
			needsGroupPauses|needsGroups, groupPauseStopsThatGroup),
		promise("any client pauses any group",
			"PauserOf pauses and resumes the group that it names, or all consumers, whatever the group of the client; without PauserOf a client pauses its own group, or if it has none, all consumers.",
			needsGroupPauses|needsGroups, anyClientPausesAnyGroup),
		promise("the pauses of a topic and of a group overlap",
			"A group waits until both its own pause and that of the topic were resumed, in either order.",
			needsGroupPauses|needsGroups, pausesOverlap),
		promise("a group waits for the later end",
			"Of a pause of the topic and one of the group the one that ends later holds for that group; another group waits for that of the topic alone.",
			needsGroupPauses|needsGroups, groupWaitsForLaterEnd),
		promise("the longer pause of a group holds",
			"A pause of a group that would end sooner than the one that holds changes nothing, and one that ends later takes its place.",
			needsGroupPauses|needsGroups, longerGroupPauseHolds),
		promise("pauses of groups are listed",
			"Pauses lists the pause of the topic and those of all groups in the order of their names; that of a Pauser with a group leaves out the other groups.",
			needsGroupPauses|needsGroups, groupPausesAreListed),
		promise("all pauses are told with their groups",
			"AllPauses of a backend that is an Inspector tells which groups are paused.",
			needsGroupPauses|needsGroups|needsInspection, groupPausesAreTold),
		promise("a group may be paused before it comes",
			"A group that was paused before its first Subscribe waits from then on; the pause does not make it a group that gets what is published before.",
			needsGroupPauses|needsGroups, groupIsPausedBeforeItComes),
		promise("the group of a pattern is paused",
			"A group that takes a pattern is paused by the name of the pattern, and the groups of the topics that it matches go on.",
			needsGroupPauses|needsGroups|needsPatterns, patternGroupIsPaused),
		promise("the Pauser of a closed client refuses",
			"When its client was closed, what PauserOf has returned, or returns then, returns ErrClosed.",
			needsGroupPauses, closedPauserRefuses),
		promise("an impossible pause of a group is refused",
			"A Pauser returns an error for a group or a topic that cannot be, and for a pause that does not say who and why, and pauses nothing.",
			needsGroupPauses|needsGroups, impossibleGroupPauseIsRefused),
	)
}

// groupPauserOf returns the Pauser of a group, as a process has it.
func groupPauserOf(p *peer, group string) (pauser backend.Pauser) {
	all, ok := p.Publisher.(backend.GroupPauser)
	p.h.require(ok, "the publisher is no backend.GroupPauser")
	p.h.must("PauserOf", func() error {
		pauser = all.PauserOf(group)
		return nil
	})
	p.h.require(pauser != nil, "PauserOf returned nil")
	return pauser
}

// pauseGroup pauses a group of a topic, or with "" all its consumers, and returns what holds then.
func pauseGroup(p *peer, topic, group, by string, d time.Duration) (paused backend.Paused) {
	pauser := groupPauserOf(p, group)
	p.h.must("Pause", func() (err error) {
		paused, err = pauser.Pause(p.h.ctx, topic, backend.Pause{By: by, Reason: "reason of " + by, For: d})
		return err
	})
	p.h.require(paused.Topic == topic && paused.Group == group, "the pause of the group %q is said to be that of the group %q of %q", group, paused.Group, paused.Topic)
	return paused
}

func resumeGroup(p *peer, topic, group string, want bool) {
	pauser, resumed := groupPauserOf(p, group), false
	p.h.must("Resume", func() (err error) {
		resumed, err = pauser.Resume(p.h.ctx, topic)
		return err
	})
	p.h.require(resumed == want, "Resume of the group %q reports %v instead of %v", group, resumed, want)
}

// pausedGroups returns the groups whose pauses the Pauser of a group lists; "" for all consumers.
func pausedGroups(p *peer, topic, group string) (groups []string) {
	pauser := groupPauserOf(p, group)
	var pauses []backend.Paused
	p.h.must("Pauses", func() (err error) {
		pauses, err = pauser.Pauses(p.h.ctx, topic)
		return err
	})
	for _, paused := range pauses {
		p.h.require(paused.Topic == topic, "a pause of %q is listed for %q", paused.Topic, topic)
		groups = append(groups, paused.Group)
	}
	return groups
}

// groupsOfTopic are the processes of two groups, and one without, on a topic.
type groupsOfTopic struct {
	*harness
	one, two, look *peer
	topic          string
}

func newGroupsOfTopic(h *harness) *groupsOfTopic {
	g := &groupsOfTopic{harness: h, one: connect(h, PeerConfig{Group: "one"}), two: connect(h, PeerConfig{Group: "two"}), look: connect(h, PeerConfig{})}
	g.next()
	return g
}

// next goes on with another topic, to which both groups have come.
func (g *groupsOfTopic) next() {
	g.topic = g.harness.topic()
	g.one.initialize(g.topic)
	g.two.initialize(g.topic)
}

// subscribe has both groups subscribe.
func (g *groupsOfTopic) subscribe() (first, second *inbox) {
	return g.one.subscribe(g.topic), g.two.subscribe(g.topic)
}

// probesUntil returns the labels of what awaitPause has published.
func probesUntil(h *harness, last string) (labels []string) {
	n, err := strconv.Atoi(strings.TrimPrefix(last, "probe "))
	h.require(err == nil, "the probe %q has no number", last)
	for i := range n + 1 {
		labels = append(labels, "probe "+strconv.Itoa(i))
	}
	return labels
}

func groupPauseStopsThatGroup(h *harness) {
	g := newGroupsOfTopic(h)
	first, second := g.subscribe()
	quiet := quietBeyond(h, func() {
		g.look.publish(g.topic, "before")
		h.ack(first.expect("before"))
	})
	pauseGroup(g.look, g.topic, "one", "ada", 0)
	held := awaitPause(g.look, g.topic, first, quiet)
	g.look.publish(g.topic, "x", "y")
	second.ackAll(append(probesUntil(h, held), "before", "x", "y")...)
	first.none(2*quietPeriod, "its group is paused")
	resumeGroup(g.two, g.topic, "one", true)
	ackFirstDeliveries(first, held, "x", "y")
	resumeGroup(g.look, g.topic, "one", false)
}

func anyClientPausesAnyGroup(h *harness) {
	g := newGroupsOfTopic(h)
	requirePaused := func(when string, groups ...string) {
		got := pausedGroups(g.look, g.topic, "")
		h.require(slices.Equal(got, groups), "the groups %q are paused instead of %q, %s", got, groups, when)
	}
	pauseGroup(g.two, g.topic, "one", "two", 0)
	requirePaused("when another group has paused one", "one")
	resumeTopic(g.two, g.topic, false)
	resumeTopic(g.look, g.topic, false)
	resumeTopic(g.one, g.topic, true)
	pauseTopic(g.one, g.topic, "one", 0)
	requirePaused("when one has paused itself", "one")
	resumeGroup(g.look, g.topic, "one", true)
	pauseTopic(g.look, g.topic, "all", 0)
	requirePaused("when a client without a group has paused", "")
	resumeGroup(g.one, g.topic, "", true)
	pauseGroup(g.one, g.topic, "", "all", 0)
	requirePaused("when a client with a group has paused all", "")
	g.look.publish(g.topic, "a")
	first, second := g.subscribe()
	first.none(quietPeriod, "all consumers are paused")
	second.none(quietPeriod, "all consumers are paused")
	resumeTopic(g.look, g.topic, true)
	h.ack(first.expect("a"))
	h.ack(second.expect("a"))
}

func pausesOverlap(h *harness) {
	g := newGroupsOfTopic(h)
	begin := func() (first, second *inbox) {
		pauseGroup(g.look, g.topic, "one", "some", 0)
		pauseGroup(g.look, g.topic, "", "all", 0)
		g.look.publish(g.topic, "a")
		first, second = g.subscribe()
		first.none(quietPeriod, "its group and its topic are paused")
		second.none(quietPeriod, "its topic is paused")
		return first, second
	}
	first, second := begin()
	resumeGroup(g.look, g.topic, "", true)
	h.ack(second.expect("a"))
	first.none(2*quietPeriod, "its group is paused")
	resumeGroup(g.look, g.topic, "one", true)
	h.ack(first.expect("a"))

	g.next()
	first, second = begin()
	resumeGroup(g.look, g.topic, "one", true)
	first.none(2*quietPeriod, "its topic is paused")
	second.none(quietPeriod, "its topic is paused")
	resumeGroup(g.look, g.topic, "", true)
	h.ack(first.expect("a"))
	h.ack(second.expect("a"))
}

func groupWaitsForLaterEnd(h *harness) {
	g, d := newGroupsOfTopic(h), noticeableDelay(h)
	h.timeout += 6 * d
	for _, ofTopic := range []time.Duration{d, 3 * d} { // that of the group ends between these
		start := time.Now()
		pauseGroup(g.look, g.topic, "", "all", ofTopic)
		pauseGroup(g.look, g.topic, "one", "some", 2*d)
		g.look.publish(g.topic, "a")
		first, second := g.subscribe()
		for _, of := range []struct {
			in *inbox
			d  time.Duration
		}{{second, ofTopic}, {first, max(ofTopic, 2*d)}} {
			h.ack(of.in.expect("a"))
			requireDelay(h, time.Since(start), of.d)
		}
		resumeGroup(g.look, g.topic, "one", false)
		resumeGroup(g.look, g.topic, "", false)
		g.next()
	}
}

func longerGroupPauseHolds(h *harness) {
	g := newGroupsOfTopic(h)
	pauseGroup(g.look, g.topic, "", "all", 0)
	pauseGroup(g.look, g.topic, "two", "other", 0)
	for _, step := range []struct {
		by    string
		d     time.Duration
		holds string
	}{
		{"first", time.Hour, "first"}, {"shorter", time.Minute, "first"}, {"longer", 2 * time.Hour, "longer"}, {"endless", 0, "endless"}, {"last", time.Hour, "endless"},
	} {
		paused := pauseGroup(g.look, g.topic, "one", step.by, step.d)
		h.require(paused.By == step.holds && paused.Reason == "reason of "+step.holds, "after the pause by %q, that by %q holds instead of that by %q", step.by, paused.By, step.holds)
	}
	resumeGroup(g.one, g.topic, "one", true)
	resumeGroup(g.one, g.topic, "one", false)
}

func groupPausesAreListed(h *harness) {
	g := newGroupsOfTopic(h)
	requireListed := func(p *peer, of string, groups ...string) {
		got := pausedGroups(p, g.topic, of)
		h.require(slices.Equal(got, groups), "the pauses of %q are listed for the group %q instead of those of %q", got, of, groups)
	}
	requireListed(g.look, "")
	pauseGroup(g.look, g.topic, "two", "a", 0)
	requireListed(g.look, "one")
	pauseGroup(g.look, g.topic, "", "b", 0)
	pauseGroup(g.look, g.topic, "one", "c", 0)
	requireListed(g.one, "", "", "one", "two")
	requireListed(g.look, "one", "", "one")
	requireListed(g.one, "two", "", "two")
	requireListed(g.look, "three", "")
	resumeGroup(g.look, g.topic, "", true)
	requireListed(g.look, "", "one", "two")
	requireListed(g.look, "one", "one")
	resumeGroup(g.look, g.topic, "one", true)
	resumeGroup(g.look, g.topic, "two", true)
	requireListed(g.look, "")
}

func groupPausesAreTold(h *harness) {
	g := newGroupsOfTopic(h)
	for _, group := range []string{"two", "", "one"} {
		pauseGroup(g.look, g.topic, group, "by "+group, 0)
	}
	pauses := allPauses(g.one, g.topic)
	h.require(len(pauses) == 3, "%d pauses are told of instead of 3", len(pauses))
	for i, group := range []string{"", "one", "two"} {
		h.require(pauses[i].Topic == g.topic && pauses[i].Group == group && pauses[i].By == "by "+group, "the pause %+v is told of instead of that of the group %q", pauses[i], group)
	}
}

func groupIsPausedBeforeItComes(h *harness) {
	look, topic := connect(h, PeerConfig{}), h.topic()
	pauseGroup(look, topic, "one", "ada", 0)
	connect(h, PeerConfig{Group: "two"}).initialize(topic)
	look.publish(topic, "early")
	one := connect(h, PeerConfig{Group: "one"})
	one.initialize(topic)
	look.publish(topic, "a")
	in := one.subscribe(topic)
	in.none(2*quietPeriod, "its group was paused before it came")
	resumeGroup(look, topic, "one", true)
	h.ack(in.expect("a"))
	in.none(quietPeriod, "it was published before the group came, or was acked")
}

func patternGroupIsPaused(h *harness) {
	topic, look := h.topic(), connect(h, PeerConfig{})
	one, two := connect(h, PeerConfig{Group: "one"}), connect(h, PeerConfig{Group: "two"})
	one.initialize(topic + ".*")
	two.initialize(topic + ".a")
	pauseGroup(look, topic+".*", "one", "ada", 0)
	look.publish(topic+".a", "a")
	first, second := one.subscribe(topic+".*"), two.subscribe(topic+".a")
	h.ack(second.expect("a"))
	first.none(2*quietPeriod, "its group is paused")
	resumeGroup(look, topic+".*", "one", true)
	h.ack(first.expect("a"))
}

// pauserWays are the methods of a Pauser, each with its name.
func pauserWays(h *harness, pauser backend.Pauser, topic string, p backend.Pause) map[string]func() error {
	return map[string]func() error{
		"Pause":  func() error { _, err := pauser.Pause(h.ctx, topic, p); return err },
		"Resume": func() error { _, err := pauser.Resume(h.ctx, topic); return err },
		"Pauses": func() error { _, err := pauser.Pauses(h.ctx, topic); return err },
	}
}

func closedPauserRefuses(h *harness) {
	p, topic := connect(h, PeerConfig{}), h.topic()
	p.initialize(topic)
	before := groupPauserOf(p, "one")
	p.mustClose()
	for _, pauser := range []backend.Pauser{before, groupPauserOf(p, "one"), groupPauserOf(p, "")} {
		for name, do := range pauserWays(h, pauser, topic, backend.Pause{By: "a", Reason: "r"}) {
			err := h.call(name+" after Close", do)
			h.requireRefusal(err)
			h.require(errors.Is(err, backend.ErrClosed), "%s after Close returned the error %v instead of ErrClosed", name, err)
		}
	}
	h.require(len(pausedGroups(connect(h, PeerConfig{}), topic, "")) == 0, "a client that was closed has paused")
}

func impossibleGroupPauseIsRefused(h *harness) {
	g := newGroupsOfTopic(h)
	good := backend.Pause{By: "a", Reason: "r"}
	refuse := func(what string, do func() error) {
		err := h.call(what, do)
		h.requireRefusal(err)
		h.require(err != nil, "%s is accepted", what)
	}
	for _, bad := range []struct{ topic, group string }{{g.topic, "\x00"}, {g.topic, strings.Repeat("g", backend.MaxTopic+1)}, {"", "one"}, {"\x00", "one"}} {
		for name, do := range pauserWays(h, groupPauserOf(g.look, bad.group), bad.topic, good) {
			refuse(name+" of the topic "+strconv.Quote(bad.topic)+" and the group "+strconv.Quote(bad.group), do)
		}
	}
	pauser := groupPauserOf(g.look, "one")
	for _, bad := range []backend.Pause{{}, {By: "a"}, {Reason: "r"}, {By: "a", Reason: "r", For: -1}} {
		refuse("a pause that does not say who and why, or for less than no time", func() error { _, err := pauser.Pause(h.ctx, g.topic, bad); return err })
	}
	h.require(len(pausedGroups(g.look, g.topic, "")) == 0, "a group is paused after all that was refused")
}
