package console

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// queuesView shows queues.
type queuesView struct{ *view }

const (
	queuesPerPage = 100
	maxApart      = 50 // pauses that stand apart
)

// queueRow is a queue in the list.
type queueRow struct {
	backend.QueueState
	Dead    int // the dead letters of its topic, or -1 if there is no such queue, or another row has them
	DeadCap bool
	IsDead  bool // it has dead letters itself
	Pauses  []backend.Paused
	In, Out float64 // messages in a minute, or -1
	Points  []point
}

// Letters returns how many dead letters lie in the queue, of which some may be leased or delayed.
func (r queueRow) Letters() int { return r.Waiting + r.Invisible }

// LettersCapped reports whether there may be more.
func (r queueRow) LettersCapped() bool { return r.WaitingCapped || r.InvisibleCapped }

// PausedTopic reports whether all consumers of the topic are paused.
func (r queueRow) PausedTopic() bool { return r.paused("") }

// PausedGroup reports whether the consumers of the group are paused by themselves.
func (r queueRow) PausedGroup() bool { return r.paused(r.Group) }

func (r queueRow) paused(group string) bool {
	return slices.ContainsFunc(r.Pauses, func(p backend.Paused) bool { return p.Group == group })
}

// queueList is the page of all queues.
type queueList struct {
	Rows           []queueRow
	Filter         string
	Shown, All     int
	Page, Pages    int
	Previous, Next string
	At             time.Time
	Waiting, Dead  int
	WaitingCapped  bool
	DeadCapped     bool
	Oldest         time.Duration
	PausedTopics   int
	Apart          []backend.Paused // pauses of what has no queue
	MoreApart      int              // those that are not shown
}

// queues shows all queues.
func (v queuesView) queues() {
	now := v.snapshot()
	if now == nil {
		return
	}
	query := v.r.URL.Query()
	query.Set("page", "queues")
	query.Set("p", v.form("p"))
	v.showLive(http.StatusOK, "queues", "Queues", "live?"+query.Encode(), v.queueList(now))
}

// queueList returns the list that is asked for, without asking the backend.
func (v queuesView) queueList(now *snapshot) queueList {
	list := queueList{Filter: v.form("q"), At: now.at}
	dead := map[string]backend.QueueState{}
	topics := map[string]bool{}
	for _, s := range now.states {
		if name, ok := base(s.Topic); ok && s.Group == "" {
			dead[name] = s
		}
		topics[s.Topic] = true
	}
	var matching []backend.QueueState
	for _, s := range now.states {
		name, isDead := base(s.Topic)
		if isDead {
			list.Dead += s.Waiting + s.Invisible
			list.DeadCapped = list.DeadCapped || s.WaitingCapped || s.InvisibleCapped
		} else {
			list.Waiting += s.Waiting
			list.WaitingCapped = list.WaitingCapped || s.WaitingCapped
			list.Oldest = max(list.Oldest, s.Oldest)
		}
		if isDead && topics[name] && s.Group == "" {
			continue // it stands in the row of its topic
		}
		list.All++
		if contains(s.Topic+" "+s.Group+" "+s.Queue, list.Filter) {
			matching = append(matching, s)
		}
	}
	list.PausedTopics = len(now.pauses)
	list.pausesApart(now)
	list.Shown = len(matching)
	list.Pages = max((len(matching)+queuesPerPage-1)/queuesPerPage, 1)
	list.Page, _ = strconv.Atoi(v.form("p"))
	list.Page = min(max(list.Page, 1), list.Pages)
	if list.Page > 1 {
		list.Previous = link("./", "q", list.Filter, "p", strconv.Itoa(list.Page-1), "live", v.form("live"))
	}
	if list.Page < list.Pages {
		list.Next = link("./", "q", list.Filter, "p", strconv.Itoa(list.Page+1), "live", v.form("live"))
	}
	first := (list.Page - 1) * queuesPerPage
	for _, s := range matching[first:min(first+queuesPerPage, len(matching))] {
		list.Rows = append(list.Rows, v.queueRow(now, s, dead))
	}
	return list
}

// pausesApart adds the pauses that are in no row, as of a topic whose queue was dropped, or of one that groups take by a pattern.
func (l *queueList) pausesApart(now *snapshot) {
	type consumers struct{ topic, group string }
	inRow := map[consumers]bool{}
	for _, s := range now.states {
		inRow[consumers{s.Topic, s.Group}], inRow[consumers{s.Topic, ""}] = true, true
	}
	for _, p := range now.pauses {
		switch {
		case inRow[consumers{p.Topic, p.Group}] || !contains(p.Topic+" "+p.Group, l.Filter):
		case len(l.Apart) == maxApart:
			l.MoreApart++
		default:
			l.Apart = append(l.Apart, p)
		}
	}
}

// contains reports whether a text has a filter in it, in letters of either case.
func contains(text, filter string) bool {
	return filter == "" || strings.Contains(strings.ToLower(text), strings.ToLower(filter))
}

// queueRow returns the row of a queue, with the dead letters of its topic, which it takes out of dead: the first row of a topic has them.
func (v queuesView) queueRow(now *snapshot, s backend.QueueState, dead map[string]backend.QueueState) queueRow {
	row := queueRow{QueueState: s, Dead: -1, Points: v.samples.lastHour(keyOf(s)), In: -1, Out: -1}
	_, row.IsDead = base(s.Topic)
	if d, ok := dead[s.Topic]; ok {
		delete(dead, s.Topic)
		row.Dead, row.DeadCap = d.Waiting+d.Invisible, d.WaitingCapped || d.InvisibleCapped
	}
	for _, p := range now.pauses {
		if p.Topic == s.Topic && (p.Group == "" || p.Group == s.Group) {
			row.Pauses = append(row.Pauses, p)
		}
	}
	row.In, row.Out = rates(row.Points, now.at, s)
	return row
}

// rates returns how many messages have come and gone in a minute, or -1 if that is not known.
func rates(points []point, at time.Time, s backend.QueueState) (in, out float64) {
	for _, p := range slices.Backward(points) {
		d := at.Sub(p.at)
		if d < 30*time.Second {
			continue
		}
		if s.Added < p.added || s.Removed < p.removed || p.added < 0 || d > 5*historyStep {
			return -1, -1
		}
		return float64(s.Added-p.added) / d.Minutes(), float64(s.Removed-p.removed) / d.Minutes()
	}
	return -1, -1
}

// queuePage is the page of one queue.
type queuePage struct {
	Row      queueRow
	Messages []backend.Peeked
	Unread   bool // they could not be read
	Next     string
	First    string // the link to the beginning, if it is not there
	DeadLink string
	At       time.Time
}

// queue shows one queue, and what is due next in it.
func (v queuesView) queue() {
	topic, group := v.form("topic"), v.form("group")
	now, state, ok := v.known(topic, group)
	if !ok {
		return
	}
	page := v.queueState(now, state)
	if v.rights.Messages {
		found, err := v.client.inspector.Peek(v.ctx, topic, backend.Peek{Group: group, After: v.form("after")})
		if err != nil {
			v.note(err)
		}
		page.Messages, page.Unread = found, err != nil && len(found) == 0
		if len(found) == backend.DefaultPeekLimit {
			page.Next = link("queue", "topic", topic, "group", group, "after", found[len(found)-1].After)
		}
		if v.form("after") != "" {
			page.First = link("queue", "topic", topic, "group", group)
		}
	}
	v.showLive(http.StatusOK, "queue", "Queue "+visible(topic), link("live", "page", "queue", "topic", topic, "group", group), page)
}

// queueState returns the page of a queue without its messages, and asks the backend nothing.
func (v queuesView) queueState(now *snapshot, state backend.QueueState) queuePage {
	dead := map[string]backend.QueueState{}
	page := queuePage{At: now.at}
	for _, s := range now.states {
		if s.Topic == state.Topic+backend.DeadLetterSuffix && s.Group == "" {
			dead[state.Topic] = s
			page.DeadLink = link("dead", "topic", s.Topic)
		}
	}
	page.Row = v.queueRow(now, state, dead)
	if page.Row.IsDead {
		page.DeadLink = link("dead", "topic", state.Topic)
	}
	return page
}
