package command

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// foundView is an event as find, peek and tail print it with --json.
type foundView struct {
	ID          string            `json:"id"`
	Event       string            `json:"event,omitempty"`
	Place       string            `json:"place"` // topic, group, dead letters or archive
	Queue       string            `json:"queue"`
	State       string            `json:"state"`
	PublishedTo string            `json:"published_to,omitempty"`
	PublishedAt time.Time         `json:"published_at"`
	DueAt       *time.Time        `json:"due_at,omitempty"` // missing if it is always due, or never
	Deliveries  int               `json:"deliveries"`
	Failures    int               `json:"failures"`
	UniqueKey   string            `json:"unique_key,omitempty"`
	Size        int               `json:"size"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Payload     json.RawMessage   `json:"payload,omitempty"`
	Base64      []byte            `json:"payload_base64,omitempty"` // in the place of a payload that is no JSON
	Err         string            `json:"error,omitempty"`
	After       string            `json:"after,omitempty"` // of peek, for --after
}

func viewFound(f backend.Found, after string) foundView {
	v := foundView{
		ID: f.ID, Event: eventOf(f), Place: f.Place.String(), Queue: f.Queue, State: f.State.String(), PublishedTo: f.PublishedTo,
		PublishedAt: f.PublishedAt.UTC(), Deliveries: f.Deliveries, Failures: f.Failures, UniqueKey: f.UniqueKey, Size: f.Size,
		Metadata: f.Metadata, After: after,
	}
	if f.VisibleAt.Unix() != 0 {
		due := f.VisibleAt.UTC()
		v.DueAt = &due
	}
	if json.Valid(f.Payload) && utf8.Valid(f.Payload) {
		v.Payload = f.Payload
	} else {
		v.Base64 = f.Payload
	}
	if f.Err != nil {
		v.Err = f.Err.Error()
	}
	return v
}

// eventOf returns the name of the event, or "" if it has none, or if its payload was not read.
func eventOf(f backend.Found) string {
	var named struct {
		Type any `json:"_type"`
	}
	if json.Unmarshal(f.Payload, &named) == nil {
		if name, ok := named.Type.(string); ok && name != "" {
			return name
		}
	}
	return f.Metadata["name"]
}

// printFound shows an event: in a line, and its payload in a second one, or as JSON. after is the place of one that is peeked at.
func printFound(s *session, f backend.Found, after string, asJSON, payload bool) error {
	if asJSON {
		v := viewFound(f, after)
		if !payload {
			v.Payload, v.Base64 = nil, nil
		}
		return s.printLine(v)
	}
	s.printf("%s\n", formatFound(f))
	if payload && f.Err == nil {
		s.printf("    %s\n", payloadOf(f))
	}
	return s.printed.err()
}

// formatFound is one line, whatever the event says.
func formatFound(f backend.Found) string {
	what := fmt.Sprintf("%s, published %s, %s, after %s and %s", f.State, timeText(f.PublishedAt), dueOf(f), deliveries(f.Deliveries), failures(f.Failures))
	switch f.State { // of the others, the time at which they are due says nothing
	case backend.StateDead:
		what = fmt.Sprintf("%s since %s", f.State, timeText(f.PublishedAt))
	case backend.StateArchived, backend.StateQuarantined:
		what = fmt.Sprintf("%s, published %s", f.State, timeText(f.PublishedAt))
	}
	if name := eventOf(f); name != "" {
		what = terminal.Printable(name) + ", " + what
	}
	if f.UniqueKey != "" {
		what += ", unique key " + terminal.Printable(f.UniqueKey)
	}
	if f.Err != nil {
		what += "; " + unreadable(f.Err)
	}
	return fmt.Sprintf("%s  in %s: %s", terminal.Printable(f.ID), placeOf(f), what)
}

// dueOf says when an event is due. For infinity, which another program has written, there is 1970.
func dueOf(f backend.Found) string {
	at := timeText(f.VisibleAt)
	switch {
	case f.VisibleAt.Unix() == 0 && f.State == backend.StateWaiting:
		return "always due"
	case f.VisibleAt.Unix() == 0:
		return "never due"
	case f.State == backend.StateDelivered:
		return "leased or to be tried again at " + at
	}
	return "due " + at
}

func placeOf(f backend.Found) string {
	switch f.Place {
	case backend.InArchive:
		return "the archive of " + terminal.Printable(f.Queue)
	case backend.InGroup:
		return "the group's queue " + terminal.Printable(f.Queue)
	default: // in that of the topic, or of the dead letters
		return terminal.Printable(f.Queue)
	}
}

func payloadOf(f backend.Found) string {
	switch {
	case len(f.Payload) == 0 && f.Size == 0:
		return "none: the message is NULL, which another program has written"
	case f.Payload == nil:
		return fmt.Sprintf("its payload has about %d bytes, and is not shown", f.Size)
	}
	return terminal.Printable(strings.TrimSpace(string(f.Payload)))
}
