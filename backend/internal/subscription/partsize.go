package subscription

import "math"

// partSize is how many of n things to try together that have failed together because of a few of
// them. A try that fails may cost seconds, and one that succeeds a round trip: so there are two
// rounds of many tries, and not many rounds of two.
func partSize(n int) int {
	if n <= 25 {
		return 1
	}
	return int(math.Sqrt(float64(n)))
}
