package middleware

import "context"

// outcome is what became of a message beyond what its handler returned. A Poison that
// has published a dead letter returns nil, and a Deduplicate further out must not
// take that for success: the dead letter may be moved back.
type outcome struct{ deadLettered bool }

type outcomeKey struct{}

// watchOutcome returns a context in which the message's outcome is noted.
func watchOutcome(ctx context.Context) (context.Context, *outcome) {
	if o, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		return ctx, o
	}
	o := &outcome{}
	return context.WithValue(ctx, outcomeKey{}, o), o
}

func noteDeadLettered(ctx context.Context) {
	if o, ok := ctx.Value(outcomeKey{}).(*outcome); ok {
		o.deadLettered = true
	}
}
