package console

import (
	"net/http"
	"slices"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// listsView shows lists.
type listsView struct{ *view }

// maxListed is how many rows a page has that lists schedules, bindings or findings.
const maxListed = 500

// list is a page of rows.
type list[T any] struct {
	Rows   []T
	Filter string
	All    int
}

// listed returns the rows that are asked for: those whose names have the filter in them.
func listed[T any](v *view, all []T, names func(T) string) list[T] {
	l := list[T]{Filter: v.form("q"), All: len(all)}
	for _, row := range all {
		if contains(names(row), l.Filter) {
			l.Rows = append(l.Rows, row)
		}
	}
	if len(l.Rows) > maxListed {
		v.notes = append(v.notes, "Only the first "+grouped(maxListed)+" are shown: filter by a name.")
		l.Rows = l.Rows[:maxListed]
	}
	return l
}

// schedules shows all schedules.
func (v listsView) schedules() {
	if !v.allowed(v.client.schedules != nil, true, "list schedules") {
		return
	}
	states, err := v.client.schedules.List(v.ctx)
	if !v.partly(err, len(states) > 0) {
		return
	}
	v.show(http.StatusOK, "schedules", "Schedules", listed(v.view, states, func(s backend.ScheduleState) string { return s.Name }))
}

// overdue reports whether no program has taken a tick whose time has come.
func overdue(s backend.ScheduleState) bool { return s.OverdueAt(time.Now()) }

// groups shows what gets copies of which topics.
func (v listsView) groups() {
	bound, err := v.client.inspector.Bindings(v.ctx)
	if !v.partly(err, len(bound) > 0) {
		return
	}
	v.show(http.StatusOK, "groups", "Groups", listed(v.view, bound, func(b backend.Binding) string { return b.Topic + " " + b.Group + " " + b.Queue }))
}

// programs shows what is connected to the database.
func (v listsView) programs() {
	if !v.allowed(v.client.programs != nil, v.rights.Doctor, "list programs") {
		return
	}
	found, err := v.client.programs.Programs(v.ctx)
	if !v.partly(err, len(found) > 0) {
		return
	}
	v.show(http.StatusOK, "programs", "Programs", listed(v.view, found, func(p backend.Program) string { return p.Name + " " + p.Role + " " + p.Host }))
}

// doctor shows what endangers the queues.
func (v listsView) doctor() {
	if !v.allowed(v.client.checker != nil, v.rights.Doctor, "see what endangers the queues") {
		return
	}
	found, err := v.client.checker.Check(v.ctx)
	if !v.partly(err, len(found) > 0) {
		return
	}
	slices.SortStableFunc(found, func(a, b backend.Finding) int { return int(b.Severity) - int(a.Severity) })
	v.show(http.StatusOK, "doctor", "Doctor", listed(v.view, found, func(f backend.Finding) string { return f.ID + " " + f.Object + " " + f.Seen }))
}
