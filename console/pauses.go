package console

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// chosenConsumers says whose consumers are meant.
func chosenConsumers(v *view) string { return ofConsumers(v.form("topic"), v.form("group")) }

func ofConsumers(topic, group string) string {
	if group == "" {
		return fmt.Sprintf("topic %q", topic)
	}
	return fmt.Sprintf("group %q of topic %q", group, topic)
}

func chosenSchedule(v *view) string { return fmt.Sprintf("schedule %q", v.form("schedule")) }

// hasConsumers reports whether the topic can have consumers, or shows that it cannot.
func hasConsumers(v *view) bool { return v.knownTopic(v.form("topic")) }

// hasConsumersOrPause is hasConsumers, but for a pause that there is: its queue may have been dropped.
func hasConsumersOrPause(v *view) bool {
	return isPaused(v, v.form("topic"), v.form("group")) || hasConsumers(v)
}

// isPaused reports whether such a pause was among those that were last read.
func isPaused(v *view, topic, group string) bool {
	now, _ := v.samples.latest(v.ctx)
	return now != nil && slices.ContainsFunc(now.pauses, func(p backend.Paused) bool { return p.Topic == topic && p.Group == group })
}

// aboutPause says which consumers are paused, and whether they are already.
func aboutPause(v *view, c *confirmation) error {
	topic := v.form("topic")
	if group := v.form("group"); group != "" {
		c.About = append(c.About, "The consumers of this group fetch no more events until it is resumed. Those of other groups go on.")
	} else {
		groups, patterns := v.groupsOf(topic)
		about := "All its consumers fetch no more events until it is resumed"
		if len(groups) > 0 {
			about += ", those of its groups too: " + several(groups)
		}
		if about += "."; len(patterns) > 0 {
			about += " Groups that take it by a pattern go on: " + several(patterns) + "."
		}
		c.About = append(c.About, about)
	}
	return aboutHeld(v, c, "It is paused already, %s."+longerHolds)
}

// aboutResume says what it is that ends.
func aboutResume(v *view, c *confirmation) error { return aboutHeld(v, c, "It is paused %s.") }

// longerHolds is the rule of backend.Pauser.
const longerHolds = " Of two pauses the one that ends later holds: to make this one shorter, resume first."

// aboutHeld says which pauses hold, with these words for that of the consumers that are meant.
func aboutHeld(v *view, c *confirmation, words string) error {
	pauser, err := pauserOf(v)
	if err != nil {
		return err
	}
	group := v.form("group")
	held, err := pauser.Pauses(v.ctx, v.form("topic"))
	if err != nil {
		v.note(err)
	}
	for _, p := range held {
		switch p.Group {
		case group:
			c.About = append(c.About, fmt.Sprintf(words, heldText(p)))
		case "":
			c.About = append(c.About, "The topic is paused as a whole, "+heldText(p)+".")
		}
	}
	return nil
}

// aboutSchedule says whether a schedule is paused already.
func aboutSchedule(v *view, c *confirmation) error {
	known, err := v.client.schedules.List(v.ctx)
	if err != nil {
		v.note(err)
	}
	for _, s := range known {
		if s.Name == v.form("schedule") && s.Paused != nil {
			c.About = append(c.About, "It is paused already, "+heldText(*s.Paused)+"."+longerHolds)
		}
	}
	return nil
}

// heldText says until when a pause holds, by whom it is, and why.
func heldText(p backend.Paused) string {
	until := "it is resumed"
	if !p.Until.IsZero() {
		until = stamp(p.Until)
	}
	return fmt.Sprintf("until %s: %s, by %s", until, visible(p.Reason), visible(p.By))
}

// several returns some names for people, and how many more there are.
func several(names []string) string {
	const most = 20
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// wantedPause returns the pause that is asked for.
func wantedPause(v *view) (backend.Pause, error) {
	p := backend.Pause{By: v.user(v.r), Reason: v.form("why")}
	if text := v.form("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d <= 0 {
			return p, &backend.RefusedError{What: "the duration", Reason: fmt.Sprintf("%.40q is none", text), Remedy: "write it as in 90m or 2h, or leave it empty to pause until it is resumed"}
		}
		p.For = d
	}
	return p, nil
}

// pauserOf returns what pauses the consumers that are meant.
func pauserOf(v *view) (backend.Pauser, error) {
	topic, group := v.form("topic"), v.form("group")
	groups, ok := v.client.pauser.(backend.GroupPauser)
	switch {
	case group == "" && !ok:
		return v.client.pauser, nil
	case !ok:
		return nil, &backend.RefusedError{What: "the group", Reason: "this backend pauses topics as a whole", Remedy: "pause the topic"}
	}
	if group == "" {
		return groups.PauserOf(""), nil
	}
	if known, _ := v.groupsOf(topic); !slices.Contains(known, group) && !isPaused(v, topic, group) {
		return nil, &backend.RefusedError{What: "the group", Reason: "the topic has none of that name", Remedy: "choose one from the list of queues"}
	}
	return groups.PauserOf(group), nil
}

// paused says whether the pause holds that was wanted, or another one.
func paused(wanted backend.Pause, held backend.Paused, err error) (result, error) {
	switch {
	case err != nil:
		return result{}, err
	case isOf(held, wanted):
		return result{"It is paused " + heldText(held) + ".", true}, nil
	case wanted.For == 0:
		return result{"Not changed: it is paused already, " + heldText(held) + ".", false}, nil
	}
	return result{"Not changed: a longer pause holds, " + heldText(held) + ". To make it shorter, resume first.", false}, nil
}

// isOf reports whether a pause that holds is the one that was wanted. The backend says only which one holds.
func isOf(held backend.Paused, wanted backend.Pause) bool {
	if held.By != wanted.By || held.Reason != wanted.Reason || held.Until.IsZero() != (wanted.For == 0) {
		return false
	}
	return wanted.For == 0 || (held.Until.Sub(held.Since)-wanted.For).Abs() < time.Second // a backend may round them
}

func resumed(was bool, err error) (result, error) {
	switch {
	case err != nil:
		return result{}, err
	case was:
		return result{"It is resumed.", true}, nil
	}
	return result{"It was not paused.", false}, nil
}

func pauseConsumers(v *view) (result, error) {
	p, err := wantedPause(v)
	if err != nil {
		return result{}, err
	}
	pauser, err := pauserOf(v)
	if err != nil {
		return result{}, err
	}
	held, err := pauser.Pause(v.ctx, v.form("topic"), p)
	return paused(p, held, err)
}

func resumeConsumers(v *view) (result, error) {
	pauser, err := pauserOf(v)
	if err != nil {
		return result{}, err
	}
	got, err := resumed(pauser.Resume(v.ctx, v.form("topic")))
	if err != nil {
		return got, err
	}
	var still []string
	left, err := pauser.Pauses(v.ctx, v.form("topic"))
	for _, p := range left {
		still = append(still, ofConsumers(p.Topic, p.Group))
	}
	if len(still) > 0 {
		got.text += " Still paused: " + several(still) + "."
	}
	if err != nil {
		got.text += " What else is paused could not be read."
	}
	return got, nil
}

func pauseSchedule(v *view) (result, error) {
	p, err := wantedPause(v)
	if err != nil {
		return result{}, err
	}
	held, err := v.client.schedules.Pause(v.ctx, v.form("schedule"), p)
	return paused(p, held, err)
}

func resumeSchedule(v *view) (result, error) {
	return resumed(v.client.schedules.Resume(v.ctx, v.form("schedule")))
}
