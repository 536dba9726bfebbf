package ezq

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// EndEvent asks one router to finish. The router that receives it fetches no more
// events, lets its handlers finish, and [Router.Run] returns nil. Published
// after a batch of events, it marks the batch's end.
//
// It is acked before it takes effect, so it stops exactly one router,
// once. Events queued before it are handled first; those that wait for a
// delay or a redelivery are not, and stay in the queue. With
// Config.IgnoreControl a router does not obey it.
type EndEvent struct {
	// Timeout is how long the handlers may go on before the router interrupts
	// them. Defaults to Config.DrainTimeout. It must not be negative.
	Timeout time.Duration
}

// EventName implements [Named].
func (EndEvent) EventName() string { return "EZQEndEvent" }

// MarshalJSON writes Timeout in seconds: {"timeout":10.0}. Zero is left out.
func (e EndEvent) MarshalJSON() ([]byte, error) {
	if e.Timeout < 0 {
		return nil, fmt.Errorf("the timeout %v is negative", e.Timeout)
	}
	return json.Marshal(endEventWire{Timeout: json.RawMessage(formatSeconds(e.Timeout))})
}

// UnmarshalJSON reads what [EndEvent.MarshalJSON] and programs in other
// languages write. A timeout that is missing or null is zero.
func (e *EndEvent) UnmarshalJSON(text []byte) error {
	var wire endEventWire
	if err := json.Unmarshal(text, &wire); err != nil {
		return err
	}
	timeout, err := parseSeconds(string(wire.Timeout))
	if err != nil {
		return payloadError("the timeout " + err.Error())
	}
	e.Timeout = timeout
	return nil
}

type endEventWire struct {
	Timeout json.RawMessage `json:"timeout,omitempty"`
}

// InterruptEvent asks one router to stop at once. The router that receives it
// interrupts its handlers without waiting for them to finish, releases their
// events, and [Router.Run] returns [ErrInterrupted].
//
// Like [EndEvent] it is acked first and stops exactly one router.
type InterruptEvent struct{}

// EventName implements [Named].
func (InterruptEvent) EventName() string { return "EZQInterruptEvent" }

func isControl(event string) bool {
	return event == EndEvent{}.EventName() || event == InterruptEvent{}.EventName()
}

// controlName returns the name of the control event that later versions of the Python
// library call event, which have dropped a letter, or else event itself.
func controlName(event string) string {
	switch event {
	case "EZEndEvent":
		return EndEvent{}.EventName()
	case "EZInterruptEvent":
		return InterruptEvent{}.EventName()
	}
	return event
}

// formatSeconds writes d exactly and with a decimal point, as Python writes a
// float, or not at all if it is zero.
func formatSeconds(d time.Duration) string {
	if d == 0 {
		return ""
	}
	fraction := strings.TrimRight(fmt.Sprintf("%09d", d%time.Second), "0")
	if fraction == "" {
		fraction = "0"
	}
	return strconv.FormatInt(int64(d/time.Second), 10) + "." + fraction
}

// parseSeconds reads a JSON value, or "" for none.
func parseSeconds(text string) (time.Duration, error) {
	if text == "" || text == "null" {
		return 0, nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return 0, errors.New("is not a number of seconds")
	case seconds < 0:
		return 0, errors.New("is negative")
	}
	// A float of seconds holds nanoseconds for some months only, so plain
	// decimals do not pass through one.
	if d, err := time.ParseDuration(text + "s"); err == nil {
		return d, nil
	}
	if !(seconds*1e9 < math.MaxInt64) { // nor NaN
		return 0, errors.New("is longer than 292 years")
	}
	return time.Duration(seconds * 1e9), nil
}
