package middleware

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// CircuitBreaker stops handling messages while all of them fail, as when a service is down
// that the handler needs, so that the outage uses up no attempts of those that wait.
//
// After Failures failures in a row the circuit is open: it pauses the topic, with the [backend.Pauser],
// for all its consumers and handlers in all processes. The pause says how many have failed, and quotes no
// error: the log does. What this process has received waits meanwhile, with its lease. When the pause is over, and no longer one holds, one
// message is handled as a trial. If that succeeds, the others follow. If it fails, the next pause is
// twice as long, up to MaxPause. To go on sooner, resume the topic, which is noticed within a second.
//
// Of the failures, those count that may be the fault of what the handler needs: not
// [ezq.Permanent], [ezq.Snooze], and the error of a handler that was interrupted. A panic counts.
// An event that has expired decides nothing.
//
// Put it inside of [Retry] and [Poison], so that it sees each attempt, and [Timeout] inside of it: otherwise the wait for
// the end of a pause counts against the time of the handler. Each handler of a router has a
// state of its own, which a restart forgets. So has each process: the pause holds for all of them, but
// after it the others find out by themselves, at the cost of Failures attempts each. If one handler of
// a topic opens its circuit, the other handlers of the topic pause too; if they do not need the same
// service, give it a topic of its own.
//
// Events that fail by themselves open it too, and a publisher can send those on purpose: return [ezq.Permanent] for them.
type CircuitBreaker struct {
	// Pauser pauses the topic: it is the client of the router. If that has a group, it pauses the
	// consumers of the group. Nil pauses nothing: each process stops for itself, with what it has
	// received.
	Pauser backend.Pauser

	// Failures is how many failures in a row open the circuit. Defaults to 10.
	Failures int

	// Pause is how long the first pause is. Defaults to 10 seconds.
	Pause time.Duration

	// MaxPause is the longest pause. Defaults to 5 minutes, or to Pause if that is longer.
	MaxPause time.Duration

	// Logger is told when the circuit opens and closes. Defaults to that of the router: see
	// [ezq.LoggerFromContext].
	Logger *slog.Logger
}

// Middleware implements [message.HandlerMiddleware]. It panics if a field is negative.
func (p CircuitBreaker) Middleware(next message.HandlerFunc) message.HandlerFunc {
	mustNotBeNegative("CircuitBreaker.Failures", p.Failures)
	mustNotBeNegative("CircuitBreaker.Pause", p.Pause)
	mustNotBeNegative("CircuitBreaker.MaxPause", p.MaxPause)
	p.Failures = cmp.Or(p.Failures, 10)
	p.Pause = cmp.Or(p.Pause, 10*time.Second)
	p.MaxPause = max(cmp.Or(p.MaxPause, 5*time.Minute), p.Pause)
	next = recoverPanics(next)
	c := &circuit{policy: p, changed: make(chan struct{})}
	return func(msg *message.Message) ([]*message.Message, error) {
		ctx := msg.Context()
		trial, err := c.enter(ctx)
		if err != nil {
			backend.Release(msg)
			return nil, err
		}
		dropped := hasExpired(msg)
		returned := false
		defer func() {
			if !returned { // the handler has ended its goroutine
				c.undecided(trial)
			}
		}()
		out, err := next(msg)
		returned = true
		switch {
		case err == nil && !backend.Nacked(msg) && !dropped:
			c.succeeded(ctx, trial)
		case err == nil, isInterrupted(ctx, err), ezq.IsPermanent(err), isSnooze(err):
			c.undecided(trial)
		default:
			c.failed(ctx, trial, err)
		}
		return out, err
	}
}

// hasExpired reports whether the event of msg has expired, so that its handler is not called.
func hasExpired(msg *message.Message) bool {
	if msg.Metadata[backend.ExpiresAt] == "" {
		return false // MetaFromContext would copy the headers
	}
	at := ezq.MetaFromContext(msg.Context()).ExpiresAt
	return !at.IsZero() && !time.Now().Before(at)
}

// circuit is the state of a CircuitBreaker around one handler.
type circuit struct {
	policy CircuitBreaker

	mu          sync.Mutex    // guards what follows
	failures    int           // in a row, while it is closed
	openings    int           // since it was closed; 0: it is closed
	until       time.Time     // when a trial may begin, if it is not closed
	trying      bool          // a trial is under way
	pausedTopic bool          // this circuit has paused the topic since it was opened
	group       string        // of that pause, if it is that of a group
	checking    bool          // the pauses of the topic are being checked
	checked     time.Time     // when a check began or ended last
	changed     chan struct{} // closed, and replaced, when waiting messages should try again
}

const (
	checkInterval = time.Second      // between two checks of the pauses of the topic
	pauseTimeout  = 10 * time.Second // of a call that pauses the topic, or checks its pauses
)

// admission is whether a message may be handled now, and if not, for how long to wait.
type admission struct {
	allowed bool
	trial   bool // it is allowed as the trial

	check   bool            // check the pauses of the topic, and try again at once
	wait    time.Duration   // or else, try again after that,
	changed <-chan struct{} // or when this is closed
}

// enter waits until a message may be handled, and reports whether it is a trial. It fails with the
// cause of ctx, or when the router stops.
func (c *circuit) enter(ctx context.Context) (trial bool, err error) {
	for {
		a := c.tryEnter(time.Now())
		switch {
		case a.allowed:
			return a.trial, nil
		case a.check:
			c.checkPauses(ctx)
			continue
		}
		timer := time.NewTimer(a.wait)
		select {
		case <-timer.C:
		case <-a.changed:
		case <-ezq.StoppingFromContext(ctx):
			err = ezq.ErrInterrupted
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if timer.Stop(); err != nil {
			return false, err
		}
	}
}

func (c *circuit) tryEnter(now time.Time) admission {
	c.mu.Lock()
	defer c.mu.Unlock()
	left := c.until.Sub(now)
	sinceCheck := now.Sub(c.checked)
	switch {
	case c.openings == 0:
		return admission{allowed: true}
	case c.trying, c.checking:
		return admission{wait: time.Hour, changed: c.changed}
	case c.pausedTopic && (sinceCheck >= checkInterval || left <= 0 && c.checked.Before(c.until)):
		c.checked, c.checking = now, true
		return admission{check: true}
	case left <= 0:
		c.trying = true
		return admission{allowed: true, trial: true}
	case c.pausedTopic:
		return admission{wait: min(left, checkInterval-sinceCheck), changed: c.changed}
	}
	return admission{wait: left, changed: c.changed}
}

// checkPauses lets a trial begin if the topic was resumed, and has it wait if the topic is paused for longer,
// as an operator does. If the pauses cannot be read, a trial begins when the pause of this circuit is over.
func (c *circuit) checkPauses(ctx context.Context) {
	calling, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	pauses, err := c.policy.Pauser.Pauses(calling, topicOf(ctx))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checking, c.checked = false, time.Now()
	if err == nil {
		c.waitFor(pauses, c.checked)
	}
	c.signal()
}

// waitFor has a trial wait for the longest of the pauses that concern this circuit, and for none if there is none.
func (c *circuit) waitFor(pauses []backend.Paused, now time.Time) {
	resumed := true
	for _, paused := range pauses {
		if paused.Group != "" && paused.Group != c.group {
			continue
		}
		resumed = false
		end := paused.Until
		if end.IsZero() {
			end = now.Add(2 * checkInterval) // there is another check before that
		}
		if end.After(c.until) {
			c.until = end
		}
	}
	if resumed {
		c.until = time.Time{}
	}
}

// signal has waiting messages try again.
func (c *circuit) signal() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *circuit) succeeded(ctx context.Context, trial bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if trial {
		c.trying, c.openings = false, 0
		c.signal()
		c.logger(ctx).Info("middleware: a circuit breaker is closed: the trial has succeeded", "topic", topicOf(ctx), "handler", handlerOf(ctx))
	}
	c.failures = 0
}

// undecided ends a trial that has shown nothing. The next message is another one.
func (c *circuit) undecided(trial bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if trial {
		c.trying = false
		c.signal()
	}
}

func (c *circuit) failed(ctx context.Context, trial bool, cause error) {
	if pause, open := c.countFailure(trial); open {
		c.logger(ctx).Warn("middleware: a circuit breaker is open: its handler has failed too often in a row",
			"topic", topicOf(ctx), "handler", handlerOf(ctx), "pause", pause.String(), "error", cause)
		c.pause(ctx, pause, c.reason(trial))
	}
}

// reason is why the topic is paused. All programs that list the pauses read it. What an error says is for fewer: it may
// quote the event.
func (c *circuit) reason(trial bool) string {
	switch {
	case trial:
		return "the trial after the last pause failed too; its error is in the log"
	case c.policy.Failures == 1:
		return "an event failed; its error is in the log"
	}
	return fmt.Sprintf("%d events failed in a row; their errors are in the log", c.policy.Failures)
}

// countFailure reports for how long to pause, if that was one failure too many. What began before the
// circuit was opened tells nothing new.
func (c *circuit) countFailure(trial bool) (pause time.Duration, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.openings > 0 && !trial {
		return 0, false
	}
	c.failures++
	if !trial && c.failures < c.policy.Failures {
		return 0, false
	}
	pause = c.policy.Pause
	for range min(c.openings, 62) {
		pause = min(2*pause, c.policy.MaxPause)
	}
	now := time.Now()
	c.failures, c.trying, c.pausedTopic, c.checked = 0, false, false, now
	c.openings++
	c.until = now.Add(pause)
	c.signal()
	return pause, true
}

// pause pauses the topic. If that fails, this process waits all the same.
func (c *circuit) pause(ctx context.Context, d time.Duration, reason string) {
	if c.policy.Pauser == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), pauseTimeout)
	defer cancel()
	host, _ := os.Hostname() // or ""
	by := strings.TrimSuffix("circuit breaker of "+handlerOf(ctx)+" at "+host, " at ")
	paused, err := c.policy.Pauser.Pause(ctx, topicOf(ctx), backend.Pause{
		By: pauseAuthor(by), Reason: reason, For: d,
	})
	if err != nil {
		c.logger(ctx).Error("middleware: a circuit breaker could not pause its topic; this process waits alone", "topic", topicOf(ctx), "error", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pausedTopic, c.group = true, paused.Group
	c.signal() // what waits begins to check
}

// pauseAuthor returns text as a pause may have it: cut, without NUL, and in UTF-8.
func pauseAuthor(text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "�")
	if most := backend.MaxPauseAuthor; len(text) > most {
		text = strings.ToValidUTF8(text[:most-len("…")], "") + "…"
	}
	return text
}

func (c *circuit) logger(ctx context.Context) *slog.Logger {
	return cmp.Or(c.policy.Logger, ezq.LoggerFromContext(ctx))
}
