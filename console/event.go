package console

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// eventView shows events.
type eventView struct{ *view }

const (
	// maxSearched is how many topics are searched for an event, if none is named.
	maxSearched = 50

	// maxPlaces is how many places of an event are shown.
	maxPlaces = 100

	// maxHeaders is how many bytes of headers are shown, each header with what the page has around it.
	maxHeaders = 1 << 20
)

// eventPage is the page of one event.
type eventPage struct {
	ID, Topic string
	Topics    []string // those of which one can be chosen
	Found     []foundEvent
	Tree      []treeRow
	Searched  int      // how many topics were searched as a whole
	Missed    []string // those that were not, and what else was not looked at
}

// foundEvent is an event at one place.
type foundEvent struct {
	backend.Found
	Topic    string
	In       backend.QueueState // the queue that it is in
	Body     shown
	Headless bool // its headers are left out
}

// treeRow is an event in the tree of a correlation.
type treeRow struct {
	*ezq.TreeEvent
	Depth  []struct{} // one for each level above it
	Groups []string   // of each place where it is
}

// event shows where an event is, what it says, and what has followed from it.
func (v eventView) event() {
	if !v.allowed(v.client.finder != nil, v.rights.Messages, "see single events") {
		return
	}
	now := v.snapshot()
	if now == nil {
		return
	}
	page := eventPage{ID: v.form("id"), Topic: v.form("topic"), Topics: topicsOf(now)}
	if page.ID == "" {
		v.show(http.StatusOK, "event", "Find an event", page)
		return
	}
	searched := page.Topics
	if page.Topic != "" {
		if !slices.Contains(page.Topics, page.Topic) {
			v.unknown(now, page.Topic)
			return
		}
		searched = []string{page.Topic}
	}
	if len(searched) > maxSearched {
		searched = searched[:maxSearched]
		v.notes = append(v.notes, "Only the first "+grouped(maxSearched)+" topics were searched: choose the topic of the event.")
	}
	queues := map[string]backend.QueueState{}
	for _, s := range now.states {
		queues[s.Queue] = s
	}
	v.find(&page, searched, queues)
	if bare := strings.TrimSpace(page.ID); len(page.Found) == 0 && bare != page.ID && bare != "" {
		page.ID = bare // blanks come along when an ID is copied
		v.find(&page, searched, queues)
	}
	if now.err != nil {
		page.Missed = append(page.Missed, "queues that could not be read")
	}
	tree, err := ezq.FindTree(v.ctx, v.client.finder, page.ID, searched...)
	if err != nil && (v.ctx.Err() == nil || len(page.Missed) == 0) { // else the search has said it
		v.notes = append(v.notes, incomplete+"more may have followed from it: "+v.explained(err))
	}
	for _, root := range tree.Roots {
		page.Tree = appendTree(page.Tree, root, 0, queues)
	}
	v.show(http.StatusOK, "event", "Event "+visible(page.ID), page)
}

// find finds the event in topics.
func (v eventView) find(page *eventPage, topics []string, queues map[string]backend.QueueState) {
	room := maxHeaders
	page.Searched, page.Missed = 0, nil
	for i, topic := range topics {
		if len(page.Found) == maxPlaces {
			v.notes = append(v.notes, "Only the first "+grouped(maxPlaces)+" places were looked for: choose the topic of the event.")
			return
		}
		found, err := v.client.finder.Find(v.ctx, topic, backend.Selection{ID: page.ID, Limit: maxPlaces - len(page.Found)})
		if err == nil {
			page.Searched++
		} else {
			page.Missed = append(page.Missed, topic)
			v.note(err)
		}
		for _, f := range found {
			one := v.foundEvent(topic, f)
			one.In = queues[f.Queue]
			if room -= sizeOfHeaders(f.Metadata); room < 0 {
				one.Metadata, one.Headless = nil, true
			}
			page.Found = append(page.Found, one)
		}
		if v.ctx.Err() != nil {
			page.Missed = append(page.Missed, topics[i+1:]...)
			return
		}
	}
}

// NotLookedIn returns where it was not looked, for people.
func (p eventPage) NotLookedIn() string { return several(p.Missed) }

// foundEvent returns what is shown of an event.
func (v eventView) foundEvent(topic string, f backend.Found) foundEvent {
	one := foundEvent{Found: f, Topic: cmp.Or(f.PublishedTo, topic)}
	if v.rights.Payloads {
		one.Body = body(f.Payload, f.Size)
	} else {
		one.Metadata = nil
	}
	one.Payload = nil
	return one
}

// sizeOfHeaders is about how many bytes a page has for headers.
func sizeOfHeaders(headers map[string]string) (size int) {
	const around = 50
	for name, value := range headers {
		size += around + len(name) + len(value)
	}
	return size
}

// appendTree appends an event, and what has followed from it.
func appendTree(rows []treeRow, e *ezq.TreeEvent, depth int, queues map[string]backend.QueueState) []treeRow {
	row := treeRow{TreeEvent: e, Depth: make([]struct{}, min(depth, 12))}
	for _, f := range e.Found {
		row.Groups = append(row.Groups, queues[f.Queue].Group)
	}
	rows = append(rows, row)
	for _, child := range e.Children {
		rows = appendTree(rows, child, depth+1, queues)
	}
	return rows
}

// topicsOf returns the topics that are not those of dead letters. The states of one topic follow each other.
func topicsOf(now *snapshot) (topics []string) {
	for _, s := range now.states {
		if _, dead := base(s.Topic); !dead && s.Topic != "" && !slices.Contains(topics[max(len(topics)-1, 0):], s.Topic) {
			topics = append(topics, s.Topic)
		}
	}
	return topics
}
