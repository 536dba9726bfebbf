package console

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/ezq-go/ezq/backend"
)

const (
	lettersPerPage = 50
	maxSums        = 50 // into how many sums dead letters are counted
)

// deadView shows dead letters.
type deadView struct{ *view }

// deadPage is the page of dead letters: of all topics, or of one.
type deadPage struct {
	Topic  string // where they are
	Of     string // whose they are
	Topics []queueRow
	Sums   []letterSum
	Total  int
	Unread bool // not all could be counted

	Filter  letterFilter
	Letters []backend.FoundDeadLetter
	Next    string
	First   string
}

// letterSum is how many dead letters say the same.
type letterSum struct {
	backend.DeadLetterCount
	Wider bool // a filter for what they say chooses others too: it cannot say that they lack something
}

func newLetterSums(sums []backend.DeadLetterCount) (all []letterSum) {
	for i, s := range sums {
		wider := slices.ContainsFunc(sums, func(other backend.DeadLetterCount) bool {
			return other != sums[i] && (other.Rest || (s.Handler == "" || s.Handler == other.Handler) && (s.Event == "" || s.Event == other.Event) &&
				(s.Group == "" || s.Group == other.Group) && contains(other.Reason, s.Reason))
		})
		all = append(all, letterSum{s, wider})
	}
	return all
}

// letterFilter is what is chosen of the dead letters of a topic, as it was written.
type letterFilter struct{ Topic, Handler, Event, Group, Reason, ID, Age, Until, Row string }

// ages are how long ago dead letters may have been dead-lettered, at most.
func ages() []string { return []string{"1h", "24h", "168h", "720h"} }

// Ages returns the ages that can be chosen.
func (letterFilter) Ages() []string { return ages() }

// IsSet reports whether anything is chosen beside the topic.
func (f letterFilter) IsSet() bool {
	return f != letterFilter{Topic: f.Topic}
}

// pairs returns f for a link.
func (f letterFilter) pairs() []string {
	return []string{"topic", f.Topic, "handler", f.Handler, "event", f.Event, "group", f.Group, "reason", f.Reason, "id", f.ID, "age", f.Age, "until", f.Until, "row", f.Row}
}

// List returns the link to the list that f chooses, without the one of which this is the page.
func (f letterFilter) List() string {
	f.Row = ""
	return f.With("dead")
}

// Values returns what f has for a form.
func (f letterFilter) Values() (all []value) {
	for pair := range slices.Chunk(f.pairs(), 2) {
		if pair[1] != "" {
			all = append(all, value{pair[0], pair[1]})
		}
	}
	return all
}

// With returns the link to a page that does something with what is chosen.
func (f letterFilter) With(page string, pairs ...string) string {
	return link(page, append(f.pairs(), pairs...)...)
}

// selection returns f as the backend takes it: the one letter, or those for which all matches. What cannot be read is an error: without
// it, more would be chosen than was meant.
func (f letterFilter) selection() (backend.DeadLetterSelection, error) {
	if f.Row != "" {
		row, err := strconv.ParseInt(f.Row, 10, 64)
		if err != nil {
			err = &backend.RefusedError{What: "the row", Reason: fmt.Sprintf("%.40q is no number", f.Row), Remedy: "choose the dead letter from the list"}
		}
		return backend.DeadLetterSelection{Rows: []int64{row}}, err
	}
	s := backend.DeadLetterSelection{Handler: f.Handler, Event: f.Event, Group: f.Group, Reason: f.Reason, ID: f.ID}
	if f.Age != "" {
		d, err := time.ParseDuration(f.Age)
		if err != nil || d <= 0 {
			return s, &backend.RefusedError{What: "the age", Reason: fmt.Sprintf("%.40q is none", f.Age), Remedy: "write it as in 90m or 24h"}
		}
		s.From = time.Now().Add(-d)
	}
	if f.Until != "" {
		until, err := time.Parse(time.RFC3339Nano, f.Until)
		if err != nil {
			return s, &backend.RefusedError{What: "the time", Reason: fmt.Sprintf("%.40q is none", f.Until), Remedy: "choose from the list of dead letters"}
		}
		s.To = until.Add(time.Microsecond) // the unit of the backend
	}
	return s, nil
}

// letterFilter returns what is asked for.
func (v deadView) letterFilter() letterFilter {
	return letterFilter{
		Topic: v.form("topic"), Handler: v.form("handler"), Event: v.form("event"), Group: v.form("group"), Reason: v.form("reason"), ID: v.form("id"),
		Age: v.form("age"), Until: v.form("until"), Row: v.form("row"),
	}
}

// selection returns what is asked for as the backend takes it. Nothing is chosen by what may not be seen: how many there are would tell.
func (v deadView) selection() (backend.DeadLetterSelection, error) {
	f := v.letterFilter()
	switch {
	case f.Reason != "" && !v.rights.Payloads:
		return backend.DeadLetterSelection{}, &backend.RefusedError{What: "the reason", Reason: "you may not see why messages have failed", Remedy: "choose by the handler or the group"}
	case f.ID+f.Row+f.Event != "" && !v.rights.Messages:
		return backend.DeadLetterSelection{}, &backend.RefusedError{What: "the filter", Reason: "you may not see single messages, nor the names of events", Remedy: "choose by the handler or the group"}
	}
	return f.selection()
}

// dead shows the dead letters of all topics, or of one.
func (v deadView) dead() {
	if !v.allowed(v.client.letters != nil, true, "list dead letters") {
		return
	}
	topic := v.form("topic")
	if topic == "" {
		v.allDead()
		return
	}
	if !isOfDeadLetters(v.view, topic) {
		return
	}
	page := deadPage{Topic: topic, Filter: v.letterFilter()}
	page.Of, _ = base(topic)
	selection, err := v.selection()
	if err != nil {
		v.ways = []way{{link("dead", "topic", topic), "Dead letters of " + page.Of}}
		v.failed(err)
		return
	}
	if _, _, ok := v.known(topic, ""); !ok {
		return
	}
	sums, err := v.client.letters.CountDeadLetters(v.ctx, topic, withLimit(selection, maxSums))
	if !v.partly(err, len(sums) > 0) {
		return
	}
	page.Sums, page.Unread = newLetterSums(v.shownSums(sums)), err != nil
	for _, s := range sums {
		page.Total += s.Letters
	}
	if v.rights.Messages && !v.listLetters(&page, selection) {
		return
	}
	v.show(http.StatusOK, "dead", "Dead letters of "+visible(page.Of), page)
}

func withLimit(s backend.DeadLetterSelection, limit int) backend.DeadLetterSelection {
	s.Limit = limit
	return s
}

// shownSums returns sums as far as they may be seen: without the rights to it, those that differ only in their reasons, or in the names
// of their events, are one.
func (v deadView) shownSums(sums []backend.DeadLetterCount) []backend.DeadLetterCount {
	if v.rights.Payloads {
		return sums
	}
	var shown []backend.DeadLetterCount
	at := map[backend.DeadLetterCount]int{} // by the texts alone
	for _, s := range sums {
		s.Reason = ""
		if !v.rights.Messages {
			s.Event = ""
		}
		key := backend.DeadLetterCount{Topic: s.Topic, Group: s.Group, Handler: s.Handler, Event: s.Event, Rest: s.Rest}
		i, known := at[key]
		if !known {
			at[key] = len(shown)
			shown = append(shown, s)
			continue
		}
		one := &shown[i]
		one.Letters += s.Letters
		if s.Oldest.Before(one.Oldest) {
			one.Oldest = s.Oldest
		}
		if s.Newest.After(one.Newest) {
			one.Newest = s.Newest
		}
	}
	return shown
}

// listLetters adds one page of dead letters.
func (v deadView) listLetters(page *deadPage, selection backend.DeadLetterSelection) bool {
	s := withLimit(selection, lettersPerPage)
	s.After, _ = strconv.ParseInt(v.form("after"), 10, 64) // or the first ones
	s.After = max(s.After, 0)
	found, err := v.client.letters.DeadLetters(v.ctx, page.Topic, s)
	if !v.partly(err, len(found) > 0) {
		return false
	}
	page.Letters = found
	if s.After > 0 {
		page.First = page.Filter.With("dead")
	}
	if _, truncated := errors.AsType[*backend.TruncatedError](err); len(found) == lettersPerPage || truncated && len(found) > 0 {
		page.Next = page.Filter.With("dead", "after", strconv.FormatInt(found[len(found)-1].Row, 10))
	}
	return true
}

// allDead shows the topics that have dead letters, without asking the backend.
func (v deadView) allDead() {
	now := v.snapshot()
	if now == nil {
		return
	}
	v.asOf = now.at
	page := deadPage{}
	for _, s := range now.states {
		if _, ok := base(s.Topic); ok && s.Group == "" {
			page.Topics = append(page.Topics, queuesView(v).queueRow(now, s, nil))
		}
	}
	v.show(http.StatusOK, "dead", "Dead letters", page)
}

// letterPage is the page of one dead letter.
type letterPage struct {
	Topic    string
	Letter   backend.FoundDeadLetter
	Body     shown
	Headless bool // its headers are left out
	Filter   letterFilter
	Edit     *editor // nil if it is not to be edited
	NoEdit   string  // why it cannot be
	seen     bool    // what it says is shown
}

// Version returns the version of the letter for those who may see what it says: it would tell others whether they guess that right.
func (p letterPage) Version() string {
	if !p.seen {
		return ""
	}
	return p.Letter.Version()
}

// letter shows one dead letter.
func (v deadView) letter() {
	if !v.allowed(v.client.letters != nil, v.rights.Messages, "see single dead letters") {
		return
	}
	topic := v.form("topic")
	if !isOfDeadLetters(v.view, topic) {
		return
	}
	if _, _, ok := v.known(topic, ""); !ok {
		return
	}
	letter, ok := v.findLetter(topic)
	if !ok {
		return
	}
	page := letterPage{Topic: topic, Letter: letter, Filter: v.letterFilter()}
	if page.seen = v.rights.Payloads; page.seen {
		page.Body = body(letter.Payload, len(letter.Payload))
	}
	if v.rights.Edit {
		page.Edit, page.NoEdit = newEditor(letter)
	}
	if v.form("edit") == "" {
		page.Edit = nil
	}
	if page.Headless = sizeOfHeaders(letter.Metadata) > maxHeaders; page.Headless {
		page.Letter.Metadata = nil
	}
	v.show(http.StatusOK, "letter", "Dead letter "+visible(letter.ID), page)
}

// findLetter returns the dead letter that is asked for, or shows that there is none.
func (v deadView) findLetter(topic string) (letter backend.FoundDeadLetter, ok bool) {
	row, err := strconv.ParseInt(v.form("row"), 10, 64)
	if err != nil {
		v.fail(http.StatusBadRequest, "The row is no number.", "Choose the dead letter from the list.")
		return letter, false
	}
	found, err := v.client.letters.DeadLetters(v.ctx, topic, backend.DeadLetterSelection{Rows: []int64{row}, Limit: 1})
	if len(found) == 0 {
		if !v.failed(err) {
			v.fail(http.StatusNotFound, "The dead letter is not there any more.", "Look for it by its ID: it may have been redriven, or purged.")
		}
		return letter, false
	}
	return found[0], true
}
