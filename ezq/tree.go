package ezq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/excerpt"
)

// MaxTree is how many messages a [Tree] has at most.
const MaxTree = 1000

// maxCorrelations is how many correlations are looked at: one event has more only if others have forged its ID.
const maxCorrelations = 8

// Tree is the events that have followed from one, as far as they are stored: see [FindTree].
type Tree struct {
	// CorrelationIDs is what was looked for. There are several if events of different correlations have the ID.
	CorrelationIDs []string

	// Roots are the events without a cause, and those whose cause is not there, the earliest first.
	Roots []*TreeEvent
}

// TreeEvent is an event in a [Tree].
type TreeEvent struct {
	ID    string
	Event string // its name, or "" if it has none that can be read
	Topic string

	// CausationID is the ID of the event in whose handler it was published, or "".
	CausationID string

	// CauseGone says that no event of the tree has the CausationID: its cause was handled and is not archived, or its
	// topic was not asked for. It is a root.
	CauseGone bool

	// CauseUnknown says that its headers were not read, so that it may have a cause: the Err of what was Found says why. It
	// is a root.
	CauseUnknown bool

	// CauseLoops says that its causes lead back to it, which only headers do that were written by hand. It is a root.
	CauseLoops bool

	// Found is where it is: at one place, or one of each group. If it moves meanwhile, it may be told at both. It has no
	// Payload, and of the Metadata what makes the tree, and the beginning of the reason of a dead letter.
	Found []backend.Found

	// Children are the events that say that it has caused them, the earliest first.
	Children []*TreeEvent
}

// FindTree returns what has followed from one event: the events of its correlation that are stored in topics, which are
// [DefaultTopic] if there are none, in their groups, their dead letters and their archives. id is that of any of the
// events, or the correlation id, as [WithCorrelationID] sets it. An event that was acked and not archived is gone, and is
// not in the tree; those that it has caused are. What was published in a batch handler says no cause: it is in no tree.
//
// Each message that is found is in the tree once, whatever its headers say. There are [MaxTree] at most. If there are
// more, or finder has not looked at everything, FindTree returns what there is and an error that wraps a
// *[backend.TruncatedError]; so it does with all other errors of finder. That there are no events is no error.
//
// Of a message that was found, but not read, it is not known what has caused it: it is a root with CauseUnknown, and the
// error, which then wraps a *[backend.TruncatedError] too, says how many there are. A tree never looks complete if it may
// not be.
//
// The payloads and headers that one search of a topic returns are in memory at once, which are 128 MiB at most on PGMQ. Of
// each, a few kB are kept at most.
//
// On PGMQ, finder looks at the newest 100,000 rows of each table, unless it has an index of the header correlation_id.
func FindTree(ctx context.Context, finder backend.Finder, id string, topics ...string) (*Tree, error) {
	if id == "" {
		return &Tree{}, errors.New("ezq: find a tree: there is no ID: name that of an event, or a correlation id")
	}
	if len(topics) == 0 {
		topics = []string{DefaultTopic}
	}
	topics = slices.Compact(slices.Sorted(slices.Values(topics)))
	s := &treeSearch{finder: finder, topics: topics, places: map[treePlace]bool{}}
	tree := s.run(ctx, id)
	if err := errors.Join(s.errs...); err != nil {
		return tree, fmt.Errorf("ezq: find the tree of %q: %w", excerpt.Of(id), err)
	}
	return tree, nil
}

// String returns a line for each event, which stands below its cause: its name, its ID, its topic and where it is. What
// others have written is cut and quoted if it is not plain.
func (t *Tree) String() string {
	var text strings.Builder
	for _, root := range t.Roots {
		root.write(&text, 0)
	}
	return text.String()
}

func (e *TreeEvent) write(text *strings.Builder, depth int) {
	fmt.Fprintf(text, "%s%s %s on %s: ", strings.Repeat("  ", depth), cmp.Or(plain(e.Event), "an event"), plain(e.ID), plain(e.Topic))
	for i, f := range e.Found {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(whereabouts(f))
	}
	switch {
	case e.CauseGone:
		fmt.Fprintf(text, "; its cause %s is gone", plain(e.CausationID))
	case e.CauseUnknown:
		text.WriteString("; its cause is not known")
	case e.CauseLoops:
		fmt.Fprintf(text, "; its cause %s leads back to it", plain(e.CausationID))
	}
	text.WriteByte('\n')
	for _, child := range e.Children {
		child.write(text, depth+1)
	}
}

// whereabouts returns where a message is, in words.
func whereabouts(f backend.Found) string {
	words := f.State.String()
	switch {
	case f.Err != nil:
		words += ", cannot be read"
	case f.State == backend.StateDead || f.State == backend.StateQuarantined:
		if reason := f.Metadata[backend.DeadLetterReason]; reason != "" {
			words += " (" + plain(reason) + ")"
		}
	case f.Failures > 0:
		words += fmt.Sprintf(" (failures: %d)", f.Failures)
	}
	if f.Place == backend.InGroup {
		words += " in " + plain(f.Queue)
	}
	return words
}

// plain returns the beginning of a text, quoted if it has anything but what can be printed.
func plain(text string) string {
	text = excerpt.Of(text)
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		return quoted
	}
	return text
}

// treeMessage is a message that was found.
type treeMessage struct {
	backend.Found
	topic int    // its place among the topics
	event string // its name
}

// longestTold is how many bytes are kept of what a message says of itself, as its name.
const longestTold = 1024

// newTreeMessage returns what a tree keeps of a message.
func newTreeMessage(f backend.Found, topic int) *treeMessage {
	m := &treeMessage{topic: topic}
	if name, ok := peek(f.Payload); ok {
		m.event = string(name[:min(len(name), longestTold)])
	}
	kept := message.Metadata{}
	for _, header := range [...]string{correlationHeader, causationHeader} {
		if id := publishableID(f.Metadata[header]); id != "" {
			kept[header] = strings.Clone(id)
		}
	}
	for _, header := range [...]string{nameHeader, backend.DeadLetterReason} {
		if text := f.Metadata[header]; text != "" {
			kept[header] = strings.Clone(text[:min(len(text), longestTold)])
		}
	}
	m.event = strings.ToValidUTF8(cmp.Or(m.event, kept[nameHeader]), "")
	f.Payload, f.Metadata = nil, kept
	m.Found = f
	return m
}

func (m *treeMessage) cause() string { return m.Metadata[causationHeader] }

// place is what two messages have in common that may be one.
func (m *treeMessage) place() treePlace { return treePlace{m.topic, m.Place, m.Queue, m.ID, m.cause()} }

type treePlace struct {
	topic            int
	place            backend.Place
	queue, id, cause string
}

// treeSearch finds the messages of a tree.
type treeSearch struct {
	finder   backend.Finder
	topics   []string
	messages []*treeMessage
	places   map[treePlace]bool
	errs     []error
}

// run returns the tree, and leaves what was missed in errs.
func (s *treeSearch) run(ctx context.Context, id string) *Tree {
	named := s.find(ctx, backend.Selection{ID: id})
	correlated := s.find(ctx, correlatedBy(id))
	from := named
	if len(named)+len(correlated) == 0 { // it is gone, and what it has caused says its correlation
		from = s.find(ctx, backend.Selection{Header: causationHeader, Value: id})
	}
	others := s.correlations(id, from)
	for _, other := range others {
		named = append(named, s.find(ctx, backend.Selection{ID: other})...)
	}
	all := append([]string{id}, others...)
	// What only its ID leads to comes first: no search by correlation finds it once many others have taken the room.
	s.add(slices.DeleteFunc(slices.Clone(named), func(m *treeMessage) bool { return slices.Contains(all, m.Metadata[correlationHeader]) }))
	s.add(correlated)
	for _, other := range others {
		s.add(s.find(ctx, correlatedBy(other)))
	}
	s.add(slices.DeleteFunc(named, func(m *treeMessage) bool { return s.places[m.place()] || s.isTwin(m) }))
	s.sayUnread()
	return &Tree{CorrelationIDs: all, Roots: rootsOf(s.topics, s.messages)}
}

func correlatedBy(id string) backend.Selection {
	return backend.Selection{Header: correlationHeader, Value: id}
}

// correlations returns those of messages that are not id.
func (s *treeSearch) correlations(id string, messages []*treeMessage) (others []string) {
	for _, m := range messages {
		if c := m.Metadata[correlationHeader]; c != "" && c != id && !slices.Contains(others, c) {
			others = append(others, c)
		}
	}
	if n := len(others) + 1; n > maxCorrelations {
		s.leaveOut(fmt.Sprintf("events of %d correlations have the ID, and %d were looked at", n, maxCorrelations), "look for the others by their correlation ids")
		others = others[:maxCorrelations-1]
	}
	return others
}

// row is what tells a message that is found by two topics: the copy for a group that takes a pattern, by that and by its
// topic; a dead letter, by the topic that it came from and by the one that it is in.
type row struct {
	archived                      bool
	queue, id, cause, publishedTo string
	publishedAt                   int64
}

// find returns what is chosen of all topics, and one message more than the tree has room for if there is one.
func (s *treeSearch) find(ctx context.Context, selection backend.Selection) (all []*treeMessage) {
	rows := map[row]int{} // by which topic they were found first
	for i, topic := range s.topics {
		selection.Limit = MaxTree + 1 - min(len(s.messages)+len(all), MaxTree)
		found, err := s.finder.Find(ctx, topic, selection)
		if err != nil && !slices.ContainsFunc(s.errs, func(known error) bool { return known.Error() == err.Error() }) {
			s.errs = append(s.errs, err)
		}
		for _, f := range found {
			m := newTreeMessage(f, i)
			one := row{f.Place == backend.InArchive, f.Queue, f.ID, m.cause(), f.PublishedTo, f.PublishedAt.UnixMicro()}
			if first, known := rows[one]; known && first != i && f.Queue+f.PublishedTo != "" {
				continue
			}
			rows[one] = i
			all = append(all, m)
		}
	}
	return all
}

// isTwin reports whether m is in the tree, and one of both was not read. The tree then has the other one.
func (s *treeSearch) isTwin(m *treeMessage) bool {
	for i, other := range s.messages {
		same := other.topic == m.topic && other.Place == m.Place && other.Queue == m.Queue && other.ID == m.ID && other.PublishedAt.Equal(m.PublishedAt)
		if same && (m.Err != nil || other.Err != nil) {
			if m.Err == nil {
				s.messages[i] = m
			}
			return true
		}
	}
	return false
}

// add takes messages into the tree, as far as it has room.
func (s *treeSearch) add(messages []*treeMessage) {
	room := MaxTree - len(s.messages)
	if len(messages) > room {
		s.leaveOut(fmt.Sprintf("there are more than %d messages", MaxTree), "look at fewer topics")
		messages = messages[:room]
	}
	for _, m := range messages {
		s.messages = append(s.messages, m)
		s.places[m.place()] = true
	}
}

// sayUnread notes how many messages of the tree were not read.
func (s *treeSearch) sayUnread() {
	unread, first := 0, error(nil)
	for _, m := range s.messages {
		if m.Err != nil {
			unread, first = unread+1, cmp.Or(first, m.Err)
		}
	}
	if unread > 0 {
		s.leaveOut(fmt.Sprintf("of %d messages it is not known what has caused them, since they were not read (%v)", unread, first), "find those by their IDs, whose Err says why")
	}
}

// leaveOut notes that something is missing.
func (s *treeSearch) leaveOut(reason, remedy string) {
	s.errs = append(s.errs, &backend.TruncatedError{Tables: s.topics, Reason: reason, Remedy: remedy})
}

// rootsOf returns the roots of the tree of messages.
func rootsOf(topics []string, messages []*treeMessage) []*TreeEvent {
	events := eventsOf(topics, messages)
	byID := map[string]int{} // of several with one ID, the earliest
	for i, e := range slices.Backward(events) {
		byID[e.ID] = i
	}
	causes := make([]int, len(events)) // of each event, or -1
	for i, e := range events {
		cause, there := byID[e.CausationID]
		e.CauseGone = e.CausationID != "" && !there
		if causes[i] = cause; e.CausationID == "" || !there {
			causes[i] = -1
		}
	}
	cutLoops(events, causes)
	var roots []*TreeEvent
	for i, e := range events {
		if causes[i] < 0 {
			roots = append(roots, e)
		} else {
			events[causes[i]].Children = append(events[causes[i]].Children, e)
		}
	}
	return roots
}

// cutLoops makes the earliest event of each loop of causes a root.
func cutLoops(events []*TreeEvent, causes []int) {
	const done = -1
	walks := make([]int, len(events)) // the walk that has come by, from 1, or done
	for start := range events {
		at := start
		for ; at >= 0 && walks[at] == 0; at = causes[at] {
			walks[at] = start + 1
		}
		if at >= 0 && walks[at] == start+1 {
			first := at
			for next := causes[at]; next != at; next = causes[next] {
				first = min(first, next)
			}
			causes[first], events[first].CauseLoops = -1, true
		}
		for at = start; at >= 0 && walks[at] == start+1; at = causes[at] {
			walks[at] = done
		}
	}
}

// eventsOf returns the events of messages, the earliest first. The copies of an event in several groups are one, if all
// say the same cause.
func eventsOf(topics []string, messages []*treeMessage) (events []*TreeEvent) {
	type identity struct{ topic, id, cause string }
	slices.Reverse(messages) // of one topic and time, the newest was found first
	slices.SortStableFunc(messages, func(a, b *treeMessage) int {
		return cmp.Or(a.PublishedAt.Compare(b.PublishedAt), cmp.Compare(a.topic, b.topic), cmp.Compare(min(len(a.cause()), 1), min(len(b.cause()), 1)))
	})
	known := map[identity]*TreeEvent{}
	for _, m := range messages {
		id := identity{cmp.Or(m.PublishedTo, topics[m.topic]), m.ID, m.cause()}
		e := known[id]
		if e == nil {
			e = &TreeEvent{ID: m.ID, Topic: id.topic, CausationID: m.cause()}
			known[id] = e
			events = append(events, e)
		}
		e.Event = cmp.Or(m.event, e.Event)
		e.CauseUnknown = e.CausationID == "" && (e.CauseUnknown || m.Err != nil)
		e.Found = append(e.Found, m.Found)
	}
	return events
}
