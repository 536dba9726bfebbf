package conformance

import "time"

// An Option adjusts how [Run] and [Check] work.
type Option func(*settings)

// VirtualTime runs each case in a bubble of testing/synctest, in which waiting takes
// no time. It is for backends in the process whose goroutines wait for nothing else
// than channels, timers and each other. Only [Run] takes it.
func VirtualTime() Option { return func(s *settings) { s.virtual = true } }

// Timeout is how long a case may take before it counts as hanging. Defaults to two
// minutes. A case about what is not promised gets half a minute at most.
func Timeout(d time.Duration) Option { return func(s *settings) { s.timeout = d } }

// Parallel is how many cases run at the same time in real time. Defaults to 8.
func Parallel(n int) Option { return func(s *settings) { s.parallel = n } }

// Only leaves out every case that keep does not want.
func Only(keep func(Case) bool) Option { return func(s *settings) { s.keep = keep } }

// Attached has the routers of the cases run in a Watermill router, by way of
// ezq.Router.Attach, instead of by themselves. It is the same for a backend, so it is
// for tests of the router.
func Attached() Option { return func(s *settings) { s.attached = true } }

// settings is what the options of a run add up to.
type settings struct {
	virtual  bool
	timeout  time.Duration
	parallel int
	keep     func(Case) bool
	attached bool
}

func newSettings(options []Option) settings {
	s := settings{
		timeout:  2 * time.Minute,
		parallel: 8,
		keep:     func(Case) bool { return true },
	}
	for _, option := range options {
		option(&s)
	}
	return s
}
