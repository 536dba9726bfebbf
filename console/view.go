package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

const (
	maxForm  = 2 << 20 // bytes of a form that is sent
	maxField = 4 << 10 // bytes of a field, but for the payload of an edit: fields come to the log, and into links
)

// view is one page for one request.
type view struct {
	*Console
	w      http.ResponseWriter
	r      *http.Request
	ctx    context.Context //nolint:containedctx // that of the request, with the time limit
	rights Rights
	notes  []string  // what is missing on the page, and why
	states []string  // the same of the state of the queues, which a live page keeps up to date
	asOf   time.Time // of when it is, if not of now
	ways   []way     // where to go on, if there is no page
}

// layout is what each page has.
type layout struct {
	Page   string // the name of its template
	Title  string
	System string
	Rights Rights
	Can    capabilities
	Notes  []string

	LiveNotes []string // those in the part that is kept up to date

	Live   string // where it is kept up to date from; "" if it is not
	Paused bool   // it could be, and is not
	AsOf   time.Time
	Toggle string // the link that changes that
	User   string
	Data   any
}

// capabilities are what the client can do.
type capabilities struct{ Find, Letters, Pause, PauseGroups, Cancel, Schedules, Check, Programs bool }

func (v *view) can() capabilities {
	c := v.client
	_, groups := c.pauser.(backend.GroupPauser)
	return capabilities{c.finder != nil, c.letters != nil, c.pauser != nil, groups, c.canceller != nil, c.schedules != nil, c.checker != nil, c.programs != nil}
}

// form returns a value that was sent.
func (v *view) form(name string) string { return v.r.Form.Get(name) }

// longField returns the name of a field that is too long, and how many bytes it has, or 0 if there is none.
func (v *view) longField() (name string, size int) {
	for name, values := range v.r.Form {
		for _, text := range append(values, name) {
			if len(text) > maxField && (name != "payload" || !v.r.PostForm.Has(name)) {
				return name, len(text)
			}
		}
	}
	return "", 0
}

// show writes a page.
func (v *view) show(status int, page, title string, data any) {
	v.showLive(status, page, title, "", data)
}

// showLive writes a page that is kept up to date from a link.
func (v *view) showLive(status int, page, title, live string, data any) {
	l := layout{Page: page, Title: title, System: v.config.Title, Rights: v.rights, Can: v.can(), Notes: v.notes, User: v.user(v.r), AsOf: v.asOf, Data: data}
	if l.AsOf.IsZero() {
		l.AsOf = time.Now()
	}
	if live == "" {
		l.Notes = append(l.Notes, v.states...)
	} else {
		l.LiveNotes = v.states
		query := v.r.URL.Query()
		if l.Paused = query.Get("live") == "off"; l.Paused {
			query.Del("live")
		} else {
			l.Live = live
			query.Set("live", "off")
		}
		l.Toggle = "?" + query.Encode()
	}
	var text bytes.Buffer
	if err := v.pages.all.ExecuteTemplate(&text, "layout", l); err != nil {
		v.config.Logger.Error("ezq: a page of the console cannot be shown", "error", err)
		http.Error(v.w, "the page cannot be shown: see the log of the program", http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(text.Bytes()) // or the browser is gone
}

// failure is a page that says why there is no other.
type failure struct {
	Cause, Remedy string
	Ways          []way // before the one to the queues
}

// way is a link that leads on.
type way struct{ To, Text string }

func (v *view) fail(status int, cause, remedy string) {
	v.show(status, "failure", http.StatusText(status), failure{cause, remedy, v.ways})
}

// failed shows an error, and reports whether there was one.
func (v *view) failed(err error) bool {
	if err == nil {
		return false
	}
	if why := unknownOutcome(err); why != "" {
		v.fail(http.StatusBadGateway, why, "Look whether it was done, before you do it again.")
		return true
	}
	if v.timedOut(err) {
		v.fail(http.StatusGatewayTimeout, fmt.Sprintf("It took longer than %v, and was given up.", v.config.Timeout), "Try again when the server is less busy, or ask for less.")
		return true
	}
	if errors.Is(err, errNoLetters) {
		v.fail(http.StatusNotFound, "There are no dead letters like that.", "They may have been redriven or deleted meanwhile.")
		return true
	}
	if errors.Is(err, errOtherLetter) {
		v.fail(http.StatusConflict, "Nothing was changed: the dead letter has another payload than the one that was shown.", "Open it again, and look at what it has now.")
		return true
	}
	if conflict, ok := errors.AsType[*backend.EditConflictError](err); ok {
		v.fail(http.StatusConflict, "Nothing was changed: "+conflict.Error()+".", "Open the dead letter again, and look at what it has now.")
		return true
	}
	if refused, ok := errors.AsType[*backend.RefusedError](err); ok {
		what := plainName(refused.What)
		v.fail(http.StatusBadRequest, strings.ToUpper(what[:1])+what[1:]+" is refused: "+refused.Reason+".", "To go on, "+refused.Remedy+".")
		return true
	}
	v.fail(http.StatusBadGateway, err.Error(), "")
	return true
}

// unknownOutcome says that the answer to a change is lost, or "" if it is not.
func unknownOutcome(err error) string {
	unknown, ok := errors.AsType[*backend.UnknownOutcomeError](err)
	if !ok {
		return ""
	}
	about := "."
	switch n := int64(unknown.Most); n {
	case 0:
	case 1:
		about = " for 1 message."
	default:
		about = " for up to " + grouped(n) + " messages."
	}
	return "Whether it was done is not known: the answer is lost" + about
}

// errNoLetters is that no dead letter is chosen.
var errNoLetters = errors.New("there are no dead letters like that")

// errOtherLetter is that a dead letter has another payload than the one that was shown.
var errOtherLetter = errors.New("it has another payload than the one that was shown")

// plainName returns what is refused as the console calls it.
func plainName(what string) string {
	switch what {
	case "DeadLetterEdit.Payload":
		return "the payload"
	case "DeadLetterEdit.Version":
		return "the version"
	case "Pause.Reason":
		return "the reason"
	}
	return cmp.Or(what, "it")
}

func (v *view) timedOut(err error) bool {
	return v.ctx.Err() != nil && v.r.Context().Err() == nil || errors.Is(err, context.DeadlineExceeded)
}

// partly notes an error that has left something to show, and reports whether there is none that has left nothing.
func (v *view) partly(err error, some bool) bool {
	switch {
	case err == nil:
		return true
	case some || errors.As(err, new(*backend.TruncatedError)):
		v.note(err)
		return true
	}
	return !v.failed(err)
}

func (v *view) note(err error) { v.notes = append(v.notes, incomplete+v.explained(err)) }

const incomplete = "This page is not complete: "

// explained returns an error for people.
func (v *view) explained(err error) string {
	if v.timedOut(err) {
		return fmt.Sprintf("the time limit of %v was reached.", v.config.Timeout)
	}
	return err.Error()
}

// allowed shows why the page is refused, unless the sender has the right to it, and the client can do it.
func (v *view) allowed(can, right bool, what string) bool {
	switch {
	case !can:
		v.fail(http.StatusNotFound, "This backend cannot "+what+".", "")
	case !right:
		v.fail(http.StatusForbidden, "You may not "+what+".", "Ask those who run the console: Config.Allow decides.")
	}
	return can && right
}

// snapshot returns the newest snapshot, or shows that there is none.
func (v *view) snapshot() *snapshot {
	now, _ := v.samples.latest(v.ctx)
	switch {
	case now == nil:
		v.fail(http.StatusGatewayTimeout, fmt.Sprintf("The state of the queues could not be read within %v.", v.config.Timeout), "Try again when the server is less busy.")
	case now.err != nil && len(now.states) == 0:
		v.failed(v.forAll(now.err))
		return nil
	case now.err != nil && len(v.states) == 0:
		v.states = []string{incomplete + v.explained(v.forAll(now.err))}
	}
	return now
}

// forAll returns an error about the queues as the sender may see it: why one could not be looked at may name roles.
func (v *view) forAll(err error) error {
	if v.rights.Doctor || v.timedOut(err) {
		return err
	}
	return errors.New("some queues or pauses could not be looked at; those with the right Doctor see which, and why")
}

// known returns the state of the queue that is asked for, or shows that there is none. The backend is asked about such queues alone: any
// other name comes from a link.
func (v *view) known(topic, group string) (now *snapshot, state backend.QueueState, ok bool) {
	if now = v.snapshot(); now == nil {
		return nil, state, false
	}
	if state, ok = now.state(topic, group); !ok {
		v.unknown(now, topic)
	}
	return now, state, ok
}

// knownTopic reports whether anything has the messages of a topic: its own queue, or a group, perhaps by a pattern. If not, it shows that.
func (v *view) knownTopic(topic string) bool {
	now := v.snapshot()
	if now == nil {
		return false
	}
	for _, s := range now.states {
		if topic != "" && (s.Topic == topic || takesByPattern(s, topic)) {
			return true
		}
	}
	v.unknown(now, topic)
	return false
}

// groupsOf returns the groups of a topic, and the patterns by which others take it.
func (v *view) groupsOf(topic string) (groups, patterns []string) {
	now, _ := v.samples.latest(v.ctx)
	if now == nil {
		return nil, nil
	}
	for _, s := range now.states {
		switch {
		case s.Topic == topic && s.Group != "":
			groups = append(groups, s.Group)
		case takesByPattern(s, topic):
			patterns = append(patterns, s.Topic)
		}
	}
	return groups, slices.Compact(patterns)
}

// takesByPattern reports whether the queue is of a group that takes a topic by a pattern, which is not the topic itself.
func takesByPattern(s backend.QueueState, topic string) bool {
	return s.Topic != topic && s.Group != "" && backend.IsPattern(s.Topic) && backend.MatchesPattern(s.Topic, topic)
}

func (v *view) unknown(now *snapshot, topic string) {
	cause, remedy := missing(now, topic)
	v.fail(http.StatusNotFound, cause, remedy)
}

// missing says that a queue is not in a snapshot, which may be because it could not be read.
func missing(now *snapshot, topic string) (cause, remedy string) {
	if now.err != nil {
		return fmt.Sprintf("The topic %.100q is not among the queues that could be read.", topic), "The page of all queues says what could not be read, and why."
	}
	return fmt.Sprintf("There is no queue of the topic %.100q.", topic), "Choose one from the list of queues. It may have been dropped."
}
