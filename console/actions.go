package console

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"

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
	known  func(*view) bool                 // whether there is what it is done to, or shows that there is not
	of     func(*view) string               // what it is done to, for people and for the log
	about  func(*view, *confirmation) error // adds what is to be known before, or says why there is nothing to confirm; nil for nothing
	do     func(*view) (result, error)
}

// result is what an action has done.
type result struct {
	text    string // "" if it has failed
	changed bool   // something is not as it was
}

// actions are all changes that the console makes.
func actions() map[string]action {
	return map[string]action{
		"pause": {
			title: "Pause consumers", verb: "Pause", why: "Why? All consumers log it.", can: canPause, right: mayPause,
			known: hasConsumers, of: chosenConsumers, about: aboutPause, do: pauseConsumers,
		},
		"resume": {title: "Resume consumers", verb: "Resume", can: canPause, right: mayPause, known: hasConsumersOrPause, of: chosenConsumers, about: aboutResume, do: resumeConsumers},
		"pause-schedule": {
			title: "Pause a schedule", verb: "Pause", why: "Why? The list of schedules says it.", can: hasSchedules, right: mayPause,
			known: anything, of: chosenSchedule, about: aboutSchedule, do: pauseSchedule,
		},
		"resume-schedule": {title: "Resume a schedule", verb: "Resume", can: hasSchedules, right: mayPause, known: anything, of: chosenSchedule, do: resumeSchedule},
		"redrive": {
			title: "Redrive dead letters", verb: "Redrive", can: hasLetters, right: func(r Rights) bool { return r.Redrive },
			known: hasDeadLetters, of: chosenLetters, about: aboutLetters, do: redrive,
		},
		"purge": {
			title: "Delete dead letters", verb: "Delete", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Purge },
			known: hasDeadLetters, of: chosenLetters, about: aboutLetters, do: purge,
		},
		"edit": {
			title: "Change a dead letter", verb: "Change", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Edit },
			known: hasDeadLetters, of: chosenLetters, about: aboutEdit, do: edit,
		},
		"cancel": {
			title: "Cancel an event that waits", verb: "Cancel the event", danger: true, can: canCancel, right: mayCancel, known: hasConsumers, of: chosenEvent, do: cancelWaiting,
		},
		"stop": {
			title: "Cancel an event that waits or is being handled", verb: "Cancel the event", danger: true, can: canCancel, right: mayCancel,
			known: hasConsumers, of: chosenEvent, do: cancelAny,
		},
	}
}

func anything(*view) bool        { return true }
func canPause(c client) bool     { return c.pauser != nil }
func hasSchedules(c client) bool { return c.schedules != nil }
func hasLetters(c client) bool   { return c.letters != nil }
func canCancel(c client) bool    { return c.canceller != nil }
func mayPause(r Rights) bool     { return r.Pause }
func mayCancel(r Rights) bool    { return r.Cancel }

// confirmation is the page that asks before anything is changed.
type confirmation struct {
	Action, Title, Verb, Of string
	About                   []string // what else is to be known
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

// confirm asks whether something is to be changed.
func (v actionsView) confirm() {
	a, ok := v.chosen()
	if !ok || !a.known(v.view) {
		return
	}
	v.ways = []way{{v.again(), "Go back"}}
	c := confirmation{Action: v.form("action"), Title: a.title, Verb: a.verb, Of: a.of(v.view), Danger: a.danger, Why: a.why, Back: v.back()}
	for _, name := range sentOn() {
		if text := v.form(name); text != "" {
			c.Values = append(c.Values, value{name, text})
		}
	}
	if a.about != nil && v.failed(a.about(v.view, &c)) {
		return
	}
	v.show(http.StatusOK, "confirm", a.title, c)
}

// done is the page that says what an action has done.
type done struct{ Title, Of, Result, Back string }

// do does what was confirmed, logs it, and sends the browser to the page that says so.
func (v actionsView) do() {
	a, ok := v.chosen()
	if !ok || !a.known(v.view) {
		return
	}
	v.ways = []way{{v.again(), "Go back"}}
	of := a.of(v.view)
	got, err := a.do(v.view)
	v.samples.outdate()
	action, by := v.form("action"), v.user(v.r)
	switch {
	case err != nil && got.text == "" && unknownOutcome(err) != "":
		v.config.Logger.Warn("ezq: it is not known whether a change from the console was made", "action", action, "by", by, "of", of, "error", err)
		v.failed(err)
		return
	case err != nil:
		v.config.Logger.Warn("ezq: a change from the console has failed, or is not complete", "action", action, "by", by, "of", of, "result", got.text, "error", err)
		if got.text == "" {
			v.failed(err)
			return
		}
		got.text += " " + cmp.Or(unknownRest(err), "Not all was done: "+v.explained(err))
	case got.changed:
		v.config.Logger.Info("ezq: something was changed from the console", "action", action, "by", by, "of", of, "result", got.text)
	default:
		v.config.Logger.Info("ezq: a change from the console has changed nothing", "action", action, "by", by, "of", of, "result", got.text)
	}
	to := v.doneLink()
	remember(v.w, to, got.text)
	v.w.Header().Set("Location", to)
	v.w.WriteHeader(http.StatusSeeOther)
}

// unknownRest is unknownOutcome for a change of which something was certainly done.
func unknownRest(err error) string {
	if unknown, ok := errors.AsType[*backend.UnknownOutcomeError](err); ok {
		return fmt.Sprintf("Whether more was done is not known: the answer is lost for up to %d messages. Look whether they were changed, before you go on.", unknown.Most)
	}
	return ""
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
	said, ok := remembered(v.r, v.doneLink())
	if !ok {
		said = "Nothing is known here of such a change, nor whether there was one. For ten minutes this page says what it has done, to the browser that has asked for it. " +
			"If there was one, it is in the log of the program."
	}
	v.show(http.StatusOK, "done", a.title, done{a.title, a.of(v.view), said, v.back()})
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

// again returns the page on which what was asked for can be corrected.
func (v actionsView) again() string {
	switch action := v.form("action"); {
	case action == "edit":
		f := deadView(v).letterFilter()
		return f.With("letter", "edit", "1")
	case actions()[action].why != "" && v.r.URL.Path == "/do":
		pairs := []string{"action", action}
		for _, name := range sentOn() {
			pairs = append(pairs, name, v.form(name))
		}
		return link("confirm", pairs...)
	}
	return v.back()
}

func chosenEvent(v *view) string {
	return fmt.Sprintf("event %q of topic %q", v.form("id"), v.form("topic"))
}

func cancelWaiting(v *view) (result, error) {
	return cancelled(v.client.canceller.Cancel(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")}))
}

func cancelAny(v *view) (result, error) {
	return cancelled(v.client.canceller.CancelRunning(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")}))
}

func cancelled(c backend.Cancelled, err error) (result, error) {
	return told(err, "It was not there any more.", part{text: "%d deleted that waited.", n: c.Removed}, part{text: "%d deleted that consumers had, or that had failed.", n: c.Stopped},
		part{text: "Left, since consumers have them, they have failed, or they are locked: %d.", n: c.Busy, left: true})
}
