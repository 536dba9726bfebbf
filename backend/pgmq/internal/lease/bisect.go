package lease

import "time"

// bisect tries all of the messages together, and if that fails, each half, in their order. It
// returns those that it has failed for by themselves, and the last ones, for which there was no time
// within about that. A try has two thirds of the time that is left, and a fifth of all at least. It
// goes on in any case until something is known about the first, so that the next time there are
// fewer.
func bisect(all []Row, within time.Duration, try func(part []Row, timeout time.Duration) error) (failed, untried []Row) {
	end := time.Now().Add(within)
	known := false
	var part func([]Row)
	part = func(rows []Row) {
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
