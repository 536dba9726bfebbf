package console

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	heartbeat   = 15 * time.Second
	maxWatching = time.Hour // after that the browser connects anew, with rights that are looked up anew
	writeLimit  = 10 * time.Second
)

// liveView keeps a page up to date.
type liveView struct{ *view }

// live keeps a page up to date, from the snapshots that all viewers share.
func live(c *Console, w http.ResponseWriter, r *http.Request) {
	select {
	case c.viewers <- struct{}{}:
		defer func() { <-c.viewers }()
	default:
		w.Header().Set("Retry-After", "30")
		http.Error(w, fmt.Sprintf("%d pages are kept up to date already: reload this one to see what is new", maxViewers), http.StatusServiceUnavailable)
		return
	}
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the link cannot be read: open the page again", http.StatusBadRequest)
		return
	}
	defer c.samples.watch()()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	s := stream{w: w, control: http.NewResponseController(w)}
	liveView{&view{Console: c, w: w, r: r, ctx: r.Context(), rights: c.rights(r)}}.follow(&s)
}

// follow writes each snapshot, until the browser or the console is gone.
func (v liveView) follow(s *stream) {
	if !s.write("retry: 5000\n\n") {
		return
	}
	end := time.NewTimer(maxWatching)
	defer end.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for version := 0; ; {
		now, changed := v.samples.latest(v.closing)
		if now == nil {
			return
		}
		if now.version != version {
			version = now.version
			if text, ok := v.fragment(now); !ok || !s.write(text) {
				return
			}
		}
		select {
		case <-changed:
		case <-beat.C:
			if !s.write(": still there\n\n") {
				return
			}
		case <-end.C:
			return
		case <-v.ctx.Done():
			return
		case <-v.closing.Done():
			return
		}
	}
}

// fragment returns the part of the page that changes, as an event. If the states cannot be read, it has those that could be read last,
// and says so.
func (v liveView) fragment(now *snapshot) (string, bool) {
	var text bytes.Buffer
	page, notes, data := v.form("page"), v.staleness(now), any(nil)
	switch read := now.read; {
	case page != "queues" && page != "queue":
		return "", false
	case read == nil:
	case page == "queues":
		data = queuesView(v).queueList(read)
	default:
		if state, ok := read.state(v.form("topic"), v.form("group")); ok {
			data = queuesView(v).queueState(read, state)
		} else {
			cause, remedy := missing(read, v.form("topic"))
			notes = append(notes, cause+" "+remedy+" As of "+stamp(read.at)+".")
		}
	}
	name := page + "-live"
	if data == nil {
		name = "live-notes"
	}
	err := v.pages.all.ExecuteTemplate(&text, name, layout{Data: data, LiveNotes: notes, Rights: v.rights, Can: v.can()})
	var event strings.Builder
	event.WriteString("event: page\n")
	for line := range strings.SplitSeq(strings.ReplaceAll(text.String(), "\r", ""), "\n") {
		event.WriteString("data: " + line + "\n")
	}
	event.WriteString("\n")
	return event.String(), err == nil
}

// staleness says what is missing in a snapshot, and of when there is what is shown instead.
func (v liveView) staleness(now *snapshot) []string {
	switch {
	case now.err == nil:
		return nil
	case now.read == now:
		return []string{incomplete + v.explained(v.forAll(now.err))}
	}
	return []string{"At " + stamp(now.at) + " the state of the queues could not be read. What stands here is older: " + v.explained(v.forAll(now.err))}
}

// stream is what is written to a browser while it listens.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// write writes text at once, and reports whether the browser is there. One that does not read is not.
func (s *stream) write(text string) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeLimit)) // a test's recorder has none
	if _, err := s.w.Write([]byte(text)); err != nil {
		return false
	}
	return s.control.Flush() == nil
}
