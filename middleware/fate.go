package middleware

import "context"

// fate is what became of a message beyond what its handler returned. A Poison that
// has published a dead letter returns nil, and a Deduplicate further out must not
// take that for success: the dead letter may be moved back.
type fate struct{ givenUp bool }

type fateKey struct{}

// watchFate returns a context in which the message's fate is noted.
func watchFate(ctx context.Context) (context.Context, *fate) {
	if f, ok := ctx.Value(fateKey{}).(*fate); ok {
		return ctx, f
	}
	f := &fate{}
	return context.WithValue(ctx, fateKey{}, f), f
}

func noteGivenUp(ctx context.Context) {
	if f, ok := ctx.Value(fateKey{}).(*fate); ok {
		f.givenUp = true
	}
}
