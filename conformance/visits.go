package conformance

import "errors"

// visit is the event that routers handle in the cases.
type visit struct {
	Label string
}

func (visit) EventName() string { return "ConformanceVisit" }

// visits returns one event for each label.
func visits(labels ...string) (events []any) {
	for _, label := range labels {
		events = append(events, visit{label})
	}
	return events
}

// errVisit is the error of a handler that fails on purpose.
var errVisit = errors.New("the handler fails on purpose")

// unknownEvent is an event that the handlers of visits do not take.
type unknownEvent struct{}

func (unknownEvent) EventName() string { return "ConformanceUnknown" }
