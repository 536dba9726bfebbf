package lease

import (
	"cmp"
	"time"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

// bisect tries all of what is to be done with messages together, and if that fails, each half, in their order. It
// returns those that it has failed for by themselves, and the last ones, for which there was no time
// within about that. A try has two thirds of the time that is left, and a fifth of all at least. It
// goes on in any case until something is known about the first, so that the next time there are
// fewer.
func bisect[T any](all []T, within time.Duration, try func(part []T, timeout time.Duration) error) (failed, untried []T) {
	end := time.Now().Add(within)
	known := false
	var part func([]T)
	part = func(rows []T) {
		switch left, half := time.Until(end), len(rows)/2; {
		case len(rows) == 0:
		case known && left <= 0:
			untried = append(untried, rows...)
		case try(rows, max(left*2/3, within/5)) == nil:
			known = true
		case half == 0:
			failed, known = append(failed, rows[0]), true
		default:
			part(rows[:half])
			part(rows[half:])
		}
	}
	part(all)
	return failed, untried
}

// bisectReachable is bisect that does not try again if the server cannot be reached, and returns why.
func bisectReachable[T any](all []T, within time.Duration, try func(part []T, timeout time.Duration) error) (failed, untried []T, unreachable error) {
	var passed []T
	failed, untried = bisect(all, within, func(part []T, timeout time.Duration) error {
		if unreachable == nil {
			err := try(part, timeout)
			if err == nil || fault.IsServerError(err) {
				return err
			}
			unreachable = err
		}
		passed = append(passed, part...)
		return nil
	})
	return failed, append(untried, passed...), unreachable
}

// storeApart stores all together, or by halves if PostgreSQL refuses some, or takes long. It returns those that are
// not stored, and why one of them is not.
func storeApart[T any](all []T, store func(part []T, timeout time.Duration) error) (failed []T, cause error) {
	failed, untried, _ := bisectReachable(all, screenTimeout, func(part []T, timeout time.Duration) error {
		err := store(part, timeout)
		cause = cmp.Or(err, cause)
		return err
	})
	return append(failed, untried...), cause
}
