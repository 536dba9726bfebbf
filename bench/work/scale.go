package work

import "time"

// Scale says how much of everything is done.
type Scale struct {
	Rounds  int
	Publish time.Duration // how long is published
	Drain   int           // how many messages are in a queue that is drained
	Deep    int           // how many are in a deep queue
	Stale   int           // how many are in one whose statistics are out of date
	Limit   time.Duration // after which a drain is over, done or not
	Latency time.Duration // how long latency is watched
	Idle    time.Duration // how long idleness is watched
}

// Quick is enough to see a difference of a third, in some minutes.
func Quick() Scale {
	return Scale{
		Rounds:  3,
		Publish: 2500 * time.Millisecond,
		Drain:   20_000,
		Deep:    200_000,
		Stale:   300_000,
		Limit:   1500 * time.Millisecond,
		Latency: time.Second,
		Idle:    1500 * time.Millisecond,
	}
}

// Full is what is published. It does all work, in less than 20 minutes on two cores.
func Full() Scale {
	return Scale{
		Rounds:  3,
		Publish: 600 * time.Millisecond,
		Drain:   30_000,
		Deep:    1_000_000,
		Stale:   1_000_000,
		Limit:   4 * time.Second,
		Latency: 1500 * time.Millisecond,
		Idle:    2 * time.Second,
	}
}
