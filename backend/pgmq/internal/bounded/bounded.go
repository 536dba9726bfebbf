// Package bounded keeps maps small that remember topics and queues: what they forget is looked up again.
package bounded

// Max bounds what is remembered of topics and queues. Others are looked up when
// they are needed.
const Max = 10_000

// Set sets a key of a cache, and leaves another one out, whichever, where there
// are too many.
func Set[T any](cache map[string]T, key string, value T) {
	if _, ok := cache[key]; !ok && len(cache) >= Max {
		for other := range cache {
			delete(cache, other)
			break
		}
	}
	cache[key] = value
}
