package console

import (
	"fmt"
	"maps"
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
	title  string // as "Pause the topic"
	verb   string // what the button says
	danger bool   // it cannot be undone
	why    bool   // it asks why, and for how long
	can    func(client) bool
	right  func(Rights) bool
	of     func(actionsView) string // what it is done to, for people and for the log
	do     func(actionsView) (result string, err error)
}

// actions are all changes that the console makes.
func actions() map[string]action {
	return map[string]action{
		"pause": {
			title: "Pause a topic", verb: "Pause", why: true, can: canPause, right: mayPause, of: actionsView.ofTopic, do: actionsView.pause,
		},
		"resume":          {title: "Resume a topic", verb: "Resume", can: canPause, right: mayPause, of: actionsView.ofTopic, do: actionsView.resume},
		"pause-schedule":  {title: "Pause a schedule", verb: "Pause", why: true, can: hasSchedules, right: mayPause, of: actionsView.ofSchedule, do: actionsView.pauseSchedule},
		"resume-schedule": {title: "Resume a schedule", verb: "Resume", can: hasSchedules, right: mayPause, of: actionsView.ofSchedule, do: actionsView.resumeSchedule},
		"redrive": {
			title: "Redrive dead letters", verb: "Redrive", can: hasLetters, right: func(r Rights) bool { return r.Redrive }, of: actionsView.ofLetters, do: actionsView.redrive,
		},
		"purge": {
			title: "Delete dead letters", verb: "Delete", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Purge }, of: actionsView.ofLetters, do: actionsView.purge,
		},
		"edit": {
			title: "Change a dead letter", verb: "Change", danger: true, can: hasLetters, right: func(r Rights) bool { return r.Edit }, of: actionsView.ofLetters, do: actionsView.edit,
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
	Danger, Why             bool
	Values                  []value // what is sent on
	Payload                 *string // of an edit
	Back                    string
}

type value struct{ Name, Value string }

// sentOn are the names of what a confirmation sends on.
func sentOn() []string {
	return []string{"topic", "schedule", "id", "row", "version", "handler", "event", "group", "reason", "age"}
}

// chosen returns the action that is asked for, or shows why it is refused. What is not known of a request may have been meant to choose less.
func (v actionsView) chosen() (a action, ok bool) {
	for _, name := range slices.Sorted(maps.Keys(v.r.Form)) {
		if !slices.Contains(append(sentOn(), "action", "payload", "why", "for"), name) {
			v.fail(http.StatusBadRequest, fmt.Sprintf("The form has a field that is not known: %.40q. Nothing was changed.", name), "Choose what to do on the pages of the console.")
			return a, false
		}
	}
	if a, ok = actions()[v.form("action")]; !ok {
		v.fail(http.StatusBadRequest, "There is no such action.", "Choose one from the page that you come from.")
		return a, false
	}
	if !v.allowed(a.can(v.client), a.right(v.rights), strings.ToLower(a.title[:1])+a.title[1:]) {
		return a, false
	}
	if topic := v.form("topic"); topic != "" {
		_, _, ok = v.known(topic, "")
		if !ok {
			return a, false
		}
	}
	return a, true
}

// confirm asks whether something is to be changed.
func (v actionsView) confirm() {
	a, ok := v.chosen()
	if !ok {
		return
	}
	if _, err := deadView(v).selection(); v.failed(err) {
		return
	}
	c := confirmation{Action: v.form("action"), Title: a.title, Verb: a.verb, Of: a.of(v), Danger: a.danger, Why: a.why, Back: v.back()}
	for _, name := range sentOn() {
		if text := v.form(name); text != "" {
			c.Values = append(c.Values, value{name, text})
		}
	}
	if v.form("action") == "edit" {
		payload := v.r.PostForm.Get("payload")
		c.Payload = &payload
	}
	v.show(http.StatusOK, "confirm", a.title, c)
}

// done is the page that says what an action has done.
type done struct{ Title, Of, Result, Back string }

// do does what was confirmed, and logs it.
func (v actionsView) do() {
	a, ok := v.chosen()
	if !ok {
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
		v.note(err)
	} else {
		v.config.Logger.Info("ezq: something was changed from the console", "action", action, "by", by, "of", of, "result", result)
	}
	v.show(http.StatusOK, "done", a.title, done{a.title, of, result, v.back()})
}

// back returns the page that an action was chosen on.
func (v actionsView) back() string {
	switch topic := v.form("topic"); {
	case v.form("schedule") != "":
		return "schedules"
	case v.form("id") != "" && (v.form("action") == "cancel" || v.form("action") == "stop"):
		return link("event", "id", v.form("id"), "topic", topic)
	case strings.HasSuffix(topic, backend.DeadLetterSuffix):
		return link("dead", "topic", topic)
	case topic != "":
		return link("queue", "topic", topic)
	}
	return "./"
}

func (v actionsView) ofTopic() string    { return fmt.Sprintf("topic %q", v.form("topic")) }
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
	for _, one := range [...]value{{"handler", f.Handler}, {"event", f.Event}, {"group", f.Group}, {"reason", f.Reason}, {"ID", f.ID}, {"at most old", f.Age}} {
		if one.Value != "" {
			by = append(by, fmt.Sprintf("%s %q", one.Name, one.Value))
		}
	}
	if len(by) == 0 {
		return fmt.Sprintf("all dead letters in %q", f.Topic)
	}
	return fmt.Sprintf("dead letters in %q with %s", f.Topic, strings.Join(by, ", "))
}

// wantedPause returns the pause that is asked for.
func (v actionsView) wantedPause() (backend.Pause, error) {
	p := backend.Pause{By: v.user(v.r), Reason: v.form("why")}
	if text := v.form("for"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return p, &backend.RefusedError{What: "the duration", Reason: fmt.Sprintf("%.40q is none", text), Remedy: "write it as in 90m or 2h, or leave it empty to pause until it is resumed"}
		}
		p.For = d
	}
	return p, nil
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
	return pausedText(v.client.pauser.Pause(v.ctx, v.form("topic"), p))
}

func (v actionsView) resume() (string, error) {
	return resumedText(v.client.pauser.Resume(v.ctx, v.form("topic")))
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
	return fmt.Sprintf("%d moved back. %d stay because they are leased, delayed or locked.", got.Moved, got.Busy), err
}

func (v actionsView) purge() (string, error) {
	selection, err := deadView(v).selection()
	if err != nil {
		return "", err
	}
	got, err := v.client.letters.PurgeDeadLetters(v.ctx, v.form("topic"), selection)
	return fmt.Sprintf("%d deleted. %d stay because they are locked.", got.Removed, got.Busy), err
}

func (v actionsView) edit() (string, error) {
	row, err := strconv.ParseInt(v.form("row"), 10, 64)
	if err != nil {
		return "", &backend.RefusedError{What: "the row", Reason: "it is no number", Remedy: "choose the dead letter from the list"}
	}
	edit := backend.DeadLetterEdit{Row: row, Version: v.form("version"), Payload: []byte(v.r.PostForm.Get("payload")), By: v.user(v.r)}
	if err := v.client.letters.EditDeadLetter(v.ctx, v.form("topic"), edit); err != nil {
		return "", err
	}
	return "It is changed, and stays where it is until it is redriven.", nil
}

func (v actionsView) cancel() (string, error) {
	got, err := v.client.canceller.Cancel(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")})
	return cancelledText(got), err
}

func (v actionsView) stop() (string, error) {
	got, err := v.client.canceller.CancelRunning(v.ctx, v.form("topic"), backend.Selection{ID: v.form("id")})
	return cancelledText(got), err
}

func cancelledText(c backend.Cancelled) string {
	return fmt.Sprintf("%d deleted that waited, %d that were being handled. %d stay.", c.Removed, c.Stopped, c.Busy)
}
