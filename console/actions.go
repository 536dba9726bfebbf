package console

import (
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// actionsView changes something.
type actionsView struct{ *view }

// action is something that is changed after it was confirmed.
type action struct {
	title  string // as "Pause consumers"
	verb   string // what the button says
	danger bool   // it cannot be undone
	why    string // how it asks why, and for how long; "" if it does not
	can    func(client) bool
	right  func(Rights) bool
	of     func(actionsView) string               // what it is done to, for people and for the log
	about  func(actionsView, *confirmation) error // adds what is to be known before, or says why there is nothing to confirm; nil for nothing
	do     func(actionsView) (result string, err error)
}

// actions are all changes that the console makes.
func actions() map[string]action {
	return map[string]action{
		"pause": {
			title: "Pause consumers", verb: "Pause", why: "Why? All consumers log it.", can: canPause, right: mayPause,
			of: actionsView.ofConsumers, about: actionsView.aboutPause, do: actionsView.pause,
		},
		"resume": {title: "Resume consumers", verb: "Resume", can: canPause, right: mayPause, of: actionsView.ofConsumers, do: actionsView.resume},
		"pause-schedule": {
			title: "Pause a schedule", verb: "Pause", why: "Why? The list of schedules says it.", can: hasSchedules, right: mayPause,
			of: actionsView.ofSchedule, do: actionsView.pauseSchedule,
		},
		"resume-schedule": {title: "Resume a schedule", verb: "Resume", can: hasSchedules, right: mayPause, of: actionsView.ofSchedule, do: actionsView.resumeSchedule},
		"redrive": {
			title: "Redrive dead letters", verb: "Redrive", can: hasLetters, right: func(r Rights) bool { return r.Redrive },
			of: actionsView.ofLetters, about: actionsView.aboutLetters, do: actionsView.redrive,
		},
		"purge": {
			title: "Delete dead letters", verb: "Delete", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Purge },
			of: actionsView.ofLetters, about: actionsView.aboutLetters, do: actionsView.purge,
		},
		"edit": {
			title: "Change a dead letter", verb: "Change", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Edit },
			of: actionsView.ofLetters, about: actionsView.aboutEdit, do: actionsView.edit,
		},
		"cancel": {
			title: "Cancel an event that waits", verb: "Cancel the event", danger: true, can: canCancel, right: mayCancel, of: actionsView.ofEvent, do: actionsView.cancel,
		},
		"stop": {
			title: "Cancel an event that waits or is being handled", verb: "Cancel the event", danger: true, can: canCancel, right: mayCancel, of: actionsView.ofEvent, do: actionsView.stop,
		},
	}
}

func canPause(c client) bool     { return c.pauser != nil }
func hasSchedules(c client) bool { return c.schedules != nil }
func hasLetters(c client) bool   { return c.letters != nil }
func canCancel(c client) bool    { return c.canceller != nil }
func mayPause(r Rights) bool     { return r.Pause }
func mayCancel(r Rights) bool    { return r.Cancel }

// confirmation is the page that asks before anything is changed.
type confirmation struct {
	Action, Title, Verb, Of string
	About                   string // what else is to be known
	Danger                  bool
	Why                     string
	Values                  []value // what is sent on
	Payload                 *string // of an edit
	Back                    string
}

type value struct{ Name, Value string }

// sentOn are the names of what a confirmation sends on.
func sentOn() []string {
	return []string{"topic", "schedule", "id", "row", "version", "handler", "event", "group", "reason", "age", "until"}
}

// unread returns what of the request is not read, or "". It may have been meant to choose less.
func (v actionsView) unread() string {
	if v.r.Method == http.MethodPost {
		if v.r.URL.RawQuery != "" {
			return "The link has fields, and the form too."
		}
		if kind, _, err := mime.ParseMediaType(v.r.Header.Get("Content-Type")); err != nil || kind != "application/x-www-form-urlencoded" {
			return "This is no form, but something else."
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.r.Form)) {
		if !slices.Contains(append(sentOn(), "action", "payload", "why", "for"), name) {
			return fmt.Sprintf("The form has a field that is not known: %.40q.", name)
		}
		if len(v.r.Form[name]) > 1 {
			return fmt.Sprintf("The form has a field more than once: %q.", name)
		}
	}
	return ""
}

// chosen returns the action that is asked for, or shows why it is refused.
func (v actionsView) chosen() (a action, ok bool) {
	if why := v.unread(); why != "" {
		v.fail(http.StatusBadRequest, why+" Nothing was changed.", "Choose what to do on the pages of the console.")
		return a, false
	}
	if a, ok = actions()[v.form("action")]; !ok {
		v.fail(http.StatusBadRequest, "There is no such action.", "Choose one from the page that you come from.")
		return a, false
	}
	if !v.allowed(a.can(v.client), a.right(v.rights), strings.ToLower(a.title[:1])+a.title[1:]) {
		return a, false
	}
	return a, true
}

// hasTarget reports whether there is what is to be changed, as far as that is a topic's, or shows that there is not.
func (v actionsView) hasTarget() bool {
	topic := v.form("topic")
	return topic == "" || v.knownTopic(topic)
}

// confirm asks whether something is to be changed.
func (v actionsView) confirm() {
	a, ok := v.chosen()
	if !ok || !v.hasTarget() {
		return
	}
	c := confirmation{Action: v.form("action"), Title: a.title, Verb: a.verb, Of: a.of(v), Danger: a.danger, Why: a.why, Back: v.back()}
	for _, name := range sentOn() {
		if text := v.form(name); text != "" {
			c.Values = append(c.Values, value{name, text})
		}
	}
	if a.about != nil && v.failed(a.about(v, &c)) {
		return
	}
	v.show(http.StatusOK, "confirm", a.title, c)
}

// aboutPause says which consumers are paused.
func (v actionsView) aboutPause(c *confirmation) error {
	topic := v.form("topic")
	if group := v.form("group"); group != "" {
		c.About = "The consumers of this group fetch no more events until it is resumed. Those of other groups go on."
		_, err := v.pauser()
		return err
	}
	groups, patterns := v.groupsOf(topic)
	c.About = "All its consumers fetch no more events until it is resumed"
	if len(groups) > 0 {
		c.About += ", those of its groups too: " + several(groups)
	}
	if c.About += "."; len(patterns) > 0 {
		c.About += " Groups that take it by a pattern go on: " + several(patterns) + "."
	}
	return nil
}

// several returns some names for people, and how many more there are.
func several(names []string) string {
	const most = 20
	if more := len(names) - most; more > 0 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

// aboutLetters says how many dead letters are chosen, and leaves out those that come later.
func (v actionsView) aboutLetters(c *confirmation) error {
	selection, err := deadView(v).selection()
	if err != nil || len(selection.Rows) > 0 {
		return err
	}
	sums, err := v.client.letters.CountDeadLetters(v.ctx, v.form("topic"), withLimit(selection, maxSums))
	if len(sums) == 0 {
		if err == nil {
			err = errNoLetters
		}
		return err
	}
	if err != nil {
		v.note(err)
	}
	total, newest := 0, sums[0].Newest
	for _, s := range sums {
		total += s.Letters
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	c.Values = slices.DeleteFunc(c.Values, func(sent value) bool { return sent.Name == "until" })
	c.Values = append(c.Values, value{"until", newest.UTC().Format(time.RFC3339Nano)})
	are := "are"
	if total == 1 {
		are = "is"
	}
	c.About = fmt.Sprintf("%s %s there now, dead-lettered until %s. What comes later stays.", grouped(int64(total)), are, stamp(newest))
	return nil
}

// aboutEdit shows the payload that is wanted, unless it could not be stored.
func (v actionsView) aboutEdit(c *confirmation) error {
	payload := v.r.PostForm.Get("payload")
	c.Payload = &payload
	edit, err := v.wantedEdit()
	if err != nil {
		return err
	}
	return edit.Check()
}

// done is the page that says what an action has done.
type done struct{ Title, Of, Result, Back string }

// do does what was confirmed, logs it, and sends the browser to the page that says so.
func (v actionsView) do() {
	a, ok := v.chosen()
	if !ok || !v.hasTarget() {
		return
	}
	of := a.of(v)
	result, err := a.do(v)
	v.samples.outdate()
	action, by := v.form("action"), v.user(v.r)
	if err != nil {
		v.config.Logger.Warn("ezq: a change from the console has failed, or is not complete", "action", action, "by", by, "of", of, "result", result, "error", err)
		if result == "" {
			v.failed(err)
			return
		}
		result += " Not all was done: " + v.explained(err)
	} else {
		v.config.Logger.Info("ezq: something was changed from the console", "action", action, "by", by, "of", of, "result", result)
	}
	to := v.doneLink()
	remember(v.w, to, result)
	v.w.Header().Set("Location", to)
	v.w.WriteHeader(http.StatusSeeOther)
}

// doneLink returns the link to the page that says what was done.
func (v actionsView) doneLink() string {
	pairs := []string{"action", v.form("action")}
	for _, name := range sentOn() {
		pairs = append(pairs, name, v.form(name))
	}
	return link("done", pairs...)
}

// done says what was done.
func (v actionsView) done() {
	a, ok := v.chosen()
	if !ok {
		return
	}
	result, ok := remembered(v.r, v.doneLink())
	if !ok {
		result = "Nothing is known here of such a change, nor whether there was one. For ten minutes this page says what it has done, to the browser that has asked for it. " +
			"If there was one, it is in the log of the program."
	}
	v.show(http.StatusOK, "done", a.title, done{a.title, a.of(v), result, v.back()})
}

// back returns the page that an action was chosen on.
func (v actionsView) back() string {
	topic, action := v.form("topic"), v.form("action")
	switch {
	case v.form("schedule") != "":
		return "schedules"
	case action == "cancel" || action == "stop":
		if !v.samples.has(func(s backend.QueueState) bool { return s.Topic == topic }) {
			topic = "" // a group has it by a pattern
		}
		return link("event", "id", v.form("id"), "topic", topic)
	case action == "pause" || action == "resume":
		group := v.form("group")
		if !v.samples.has(func(s backend.QueueState) bool { return s.Topic == topic && s.Group == group }) {
			return link("./", "q", topic) // it has groups only
		}
		return link("queue", "topic", topic, "group", group)
	}
	f := deadView(v).letterFilter()
	f.Until = ""
	return f.List()
}

// ofConsumers says whose consumers are meant.
func (v actionsView) ofConsumers() string { return ofConsumers(v.form("topic"), v.form("group")) }

func ofConsumers(topic, group string) string {
	if group == "" {
		return fmt.Sprintf("topic %q", topic)
	}
	return fmt.Sprintf("group %q of topic %q", group, topic)
}

func (v actionsView) ofSchedule() string { return fmt.Sprintf("schedule %q", v.form("schedule")) }
func (v actionsView) ofEvent() string {
	return fmt.Sprintf("event %q of topic %q", v.form("id"), v.form("topic"))
}

// ofLetters says which dead letters are chosen.
func (v actionsView) ofLetters() string {
	f := deadView(v).letterFilter()
	if f.Row != "" {
		return fmt.Sprintf("dead letter %s in %q", f.Row, f.Topic)
	}
	var by []string
	for _, one := range [...]value{
		{"handler", f.Handler}, {"event", f.Event}, {"group", f.Group}, {"reason", f.Reason}, {"ID", f.ID}, {"at most old", f.Age},
	} {
		if one.Value != "" {
			by = append(by, fmt.Sprintf("%s %q", one.Name, one.Value))
		}
	}
	text := fmt.Sprintf("all dead letters in %q", f.Topic)
	if len(by) > 0 {
		text = fmt.Sprintf("dead letters in %q with %s", f.Topic, strings.Join(by, ", "))
	}
	if f.Until != "" {
		text += ", dead-lettered until " + f.Until
	}
	return text
}

// wantedPause returns the pause that is asked for.
func (v actionsView) wantedPause() (backend.Pause, error) {
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

// pauser returns what pauses the consumers that are meant.
func (v actionsView) pauser() (backend.Pauser, error) {
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
	if known, _ := v.groupsOf(topic); !slices.Contains(known, group) {
		return nil, &backend.RefusedError{What: "the group", Reason: "the topic has none of that name", Remedy: "choose one from the list of queues"}
	}
	return groups.PauserOf(group), nil
}

func pausedText(p backend.Paused, err error) (string, error) {
	if err != nil {
		return "", err
	}
	if p.Until.IsZero() {
		return fmt.Sprintf("It is paused until it is resumed: %s, by %s.", visible(p.Reason), visible(p.By)), nil
	}
	return fmt.Sprintf("It is paused until %s: %s, by %s.", stamp(p.Until), visible(p.Reason), visible(p.By)), nil
}

func resumedText(resumed bool, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case resumed:
		return "It is resumed.", nil
	}
	return "It was not paused.", nil
}

func (v actionsView) pause() (string, error) {
	p, err := v.wantedPause()
	if err != nil {
		return "", err
	}
	pauser, err := v.pauser()
	if err != nil {
		return "", err
	}
	return pausedText(pauser.Pause(v.ctx, v.form("topic"), p))
}

func (v actionsView) resume() (string, error) {
	pauser, err := v.pauser()
	if err != nil {
		return "", err
	}
	text, err := resumedText(pauser.Resume(v.ctx, v.form("topic")))
	if err != nil {
		return "", err
	}
	var still []string
	left, err := pauser.Pauses(v.ctx, v.form("topic"))
	for _, p := range left {
		still = append(still, ofConsumers(p.Topic, p.Group))
	}
	if len(still) > 0 {
		text += " Still paused: " + several(still) + "."
	}
	if err != nil {
		text += " What else is paused could not be read."
	}
	return text, nil
}

func (v actionsView) pauseSchedule() (string, error) {
	p, err := v.wantedPause()
	if err != nil {
		return "", err
	}
	return pausedText(v.client.schedules.Pause(v.ctx, v.form("schedule"), p))
}

func (v actionsView) resumeSchedule() (string, error) {
	return resumedText(v.client.schedules.Resume(v.ctx, v.form("schedule")))
}

func (v actionsView) redrive() (string, error) {
	selection, err := deadView(v).selection()
	if err != nil {
		return "", err
	}
	got, err := v.client.letters.Redrive(v.ctx, v.form("topic"), selection)
	return told(err, "0 moved back.", part{"%d moved back.", got.Moved}, part{"Left, since leased, delayed or locked: %d.", got.Busy})
}

func (v actionsView) purge() (string, error) {
	selection, err := deadView(v).selection()
	if err != nil {
		return "", err
	}
	got, err := v.client.letters.PurgeDeadLetters(v.ctx, v.form("topic"), selection)
	return told(err, "0 deleted.", part{"%d deleted.", got.Removed}, part{"Left, since locked: %d.", got.Busy})
}

// wantedEdit returns the edit that is asked for.
func (v actionsView) wantedEdit() (backend.DeadLetterEdit, error) {
	row, err := strconv.ParseInt(v.form("row"), 10, 64)
	if err != nil {
		err = &backend.RefusedError{What: "the row", Reason: "it is no number", Remedy: "choose the dead letter from the list"}
	}
	return backend.DeadLetterEdit{Row: row, Version: v.form("version"), Payload: []byte(v.r.PostForm.Get("payload")), By: v.user(v.r)}, err
}

func (v actionsView) edit() (string, error) {
	edit, err := v.wantedEdit()
	if err != nil {
		return "", err
	}
	if err := v.client.letters.EditDeadLetter(v.ctx, v.form("topic"), edit); err != nil {
		return "", err
	}
	return "It is changed, and stays where it is until it is redriven.", nil
}

func (v actionsView) cancel() (string, error) {
	return cancelledText(v.client.canceller.Cancel(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")}))
}

func (v actionsView) stop() (string, error) {
	return cancelledText(v.client.canceller.CancelRunning(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")}))
}

func cancelledText(c backend.Cancelled, err error) (string, error) {
	return told(err, "It was not there any more.", part{"%d deleted that waited.", c.Removed}, part{"%d deleted that consumers had, or that had failed.", c.Stopped},
		part{"Left, since consumers have them, they have failed, or they are locked: %d.", c.Busy})
}
