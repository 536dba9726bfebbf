package subscription

import (
	"maps"
	"slices"
	"time"
)

// extensionFailures is which leases could not be extended since that was logged last.
type extensionFailures struct {
	ids      map[int64]struct{}
	since    time.Time // when the first of them has failed
	cause    error     // of the last
	throttle logThrottle
}

// add notes that leases could not be extended.
func (f *extensionFailures) add(group []*held, cause error) {
	now := time.Now()
	if len(f.ids) == 0 {
		f.ids, f.since = map[int64]struct{}{}, now
	}
	for _, l := range group {
		f.ids[l.ID] = struct{}{}
	}
	f.cause = cause
}

// log logs which leases could not be extended: once all have been tried, or after a while; and ever
// more seldom while it goes on.
func (f *extensionFailures) log(config Config, trying bool) {
	now := time.Now()
	if len(f.ids) == 0 || trying && now.Sub(f.since) < logMin || !f.throttle.allows(now) {
		return
	}
	config.Logger.Error("ezq: cannot extend leases; will try again until they run out",
		"topic", config.Topic, "messages", len(f.ids), "ids", firstIDs(slices.Collect(maps.Keys(f.ids))), "error", f.cause)
	f.ids = nil
}

// firstIDs returns the first of some ids, for the log.
func firstIDs(ids []int64) []int64 {
	return slices.Sorted(slices.Values(ids))[:min(len(ids), 10)]
}
