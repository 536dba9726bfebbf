package contender

import "context"

// nothing is the measuring program itself, beside which idle contenders are seen.
func nothing() Contender {
	return Contender{
		Name:     "nothing",
		Settings: "the measuring program alone",
		Open:     func(context.Context, Env) (Queue, error) { return noQueue{}, nil },
	}
}

type noQueue struct{}

// Consume implements [Consumer].
func (noQueue) Consume(context.Context, func(int)) (func() error, error) {
	return func() error { return nil }, nil
}

// Waiting implements [Queue].
func (noQueue) Waiting(context.Context) (Count, error) { return Count{}, nil }

// Close implements [Queue].
func (noQueue) Close() error { return nil }
