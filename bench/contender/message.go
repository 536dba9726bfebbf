package contender

import (
	"bytes"
	"strconv"
	"strings"
)

// Message is what is moved: a JSON object of a certain size, with a number by which it is known.
// Contenders that encode values themselves take the fields, all others take the body.
type Message struct {
	ID   int
	Text string
	Body []byte
}

// Event is a Message for those that encode and decode values.
type Event struct {
	ID   int
	Text string
}

// EventName implements [ezq.Named].
func (Event) EventName() string { return eventName }

// Kind implements [river.JobArgs].
func (Event) Kind() string { return eventName }

// keyedEvent is an Event of which River stores one for each key.
type keyedEvent struct {
	Event

	Key string `river:"unique"`
}

const (
	eventName = "Benchmark"
	before    = `{"_type":"` + eventName + `","ID":`
	between   = `,"Text":"`
	after     = `"}`
)

// Maker makes messages of one size.
type Maker struct{ text string }

// NewMaker returns a maker of messages whose bodies have about size bytes.
func NewMaker(size int) Maker {
	return Maker{strings.Repeat("x", max(0, size-len(before)-len(between)-len(after)-6))}
}

// Make returns the message of that number.
func (m Maker) Make(id int) Message {
	body := make([]byte, 0, len(before)+len(between)+len(after)+len(m.text)+20)
	body = append(body, before...)
	body = strconv.AppendInt(body, int64(id), 10)
	body = append(body, between...)
	body = append(body, m.text...)
	body = append(body, after...)
	return Message{ID: id, Text: m.text, Body: body}
}

// idOf returns the number of a message from its body, as it was written or as PostgreSQL writes
// it. It returns -1, which no message has, if there is none: then it counts as one that was lost.
func idOf(body []byte) int {
	_, rest, ok := bytes.Cut(body, []byte(`"ID":`))
	if !ok {
		return -1
	}
	id, digits := 0, 0
	for _, c := range bytes.TrimLeft(rest, " ") {
		if c < '0' || c > '9' {
			break
		}
		id, digits = id*10+int(c-'0'), digits+1
	}
	if digits == 0 {
		return -1
	}
	return id
}
