package middleware

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Throttle lets handlers begin no more often than Count times in Per. Messages
// that come sooner wait, first come, first served. The zero value lets one begin
// each second.
//
// A waiting message occupies a place among those that the router handles at a
// time, and its lease is extended; Concurrency should be small and Per short. If its
// context ends while it waits, it goes back to the queue, and has not failed.
//
// Each handler that is wrapped has a limit of its own, and a router wraps each of its
// handlers. [Throttle.PerProcess] is one limit for all handlers of the process.
// Neither knows about other processes.
type Throttle struct {
	// Count is how many handlers may begin in Per. Defaults to 1.
	Count int

	// Per is the time for Count. Defaults to 1 second.
	Per time.Duration

	// Burst is how many may begin at once after none did for a while. Defaults to 1: they begin
	// at even intervals.
	Burst int
}

// Middleware implements [message.HandlerMiddleware]. It panics if a field is
// negative.
func (p Throttle) Middleware(next message.HandlerFunc) message.HandlerFunc {
	return p.PerProcess()(next)
}

// PerProcess returns a middleware whose handlers have one limit between them, however many it
// wraps in this process. Like Middleware it panics if a field is negative.
func (p Throttle) PerProcess() message.HandlerMiddleware {
	mustNotBeNegative("Throttle.Count", p.Count)
	mustNotBeNegative("Throttle.Per", p.Per)
	mustNotBeNegative("Throttle.Burst", p.Burst)
	count := time.Duration(cmp.Or(p.Count, 1))
	per := cmp.Or(p.Per, time.Second)
	interval := (per-1)/count + 1 // rounded up: never more than Count
	limiter := &rateLimiter{interval: interval, ahead: time.Duration(cmp.Or(p.Burst, 1)-1) * interval}

	return func(next message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			ctx := msg.Context()
			if err := waitUntil(ctx, limiter.next(time.Now())); err != nil {
				releaseInterrupted(ctx, msg)
				return nil, err
			}
			return next(msg)
		}
	}
}

// rateLimiter gives out the times at which handlers may begin.
type rateLimiter struct {
	interval time.Duration
	ahead    time.Duration // how far a pause is remembered

	mu       sync.Mutex
	nextFree time.Time // the first time that is not taken
}

// next takes the next time. A caller that does not wait for it wastes it: that
// happens when its context ends, and a limit is not to be exceeded.
func (s *rateLimiter) next(now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if earliest := now.Add(-s.ahead); s.nextFree.Before(earliest) {
		s.nextFree = earliest
	}
	at := s.nextFree
	s.nextFree = at.Add(s.interval)
	return at
}

// waitUntil returns nil at the given time, or before that the cause with which ctx
// has ended.
func waitUntil(ctx context.Context, at time.Time) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
