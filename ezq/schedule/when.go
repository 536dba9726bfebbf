package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/netresearch/go-cron"
)

// Schedule computes ticks. The schedules of the usual cron packages implement it.
type Schedule interface {
	// Next returns the first tick after t, or the zero Time if there is none. It must
	// be the same in all processes. Fractions of a microsecond are cut off.
	Next(t time.Time) time.Time
}

// Every is a schedule whose ticks are d apart, counted from 1970 in UTC: with an hour
// they are the full hours, with 24 hours midnight in UTC. d must be a multiple of a
// millisecond, and not zero: [Timetable.Add] refuses any other.
func Every(d time.Duration) Schedule { return every(d) }

type every time.Duration

// Next implements [Schedule].
func (e every) Next(t time.Time) time.Time {
	d := time.Duration(e)
	if e.check() != nil {
		return time.Time{}
	}
	sinceEpoch := time.Duration(t.UnixNano())
	past := (sinceEpoch%d + d) % d // also before 1970
	return t.Add(d - past)
}

func (e every) check() error {
	if d := time.Duration(e); d < time.Millisecond || d%time.Millisecond != 0 {
		return fmt.Errorf("Every(%v): must be a multiple of 1ms", d)
	}
	return nil
}

// Cron returns the schedule of a cron expression with five fields: minute, hour, day of
// the month, month, day of the week. "30 2 * * *" is every night at 2:30,
// "*/10 8-17 * * MON-FRI" every ten minutes in office hours, "@daily" midnight. If both a
// day of the month and a day of the week are given, a day that matches one of them is
// enough.
//
// The fields are read in the time zone in, or in UTC if in is nil. The zone of the machine
// is not used, because machines differ. When clocks are put forward, a time that is
// skipped comes later by as much. When they are put back, a time in the repeated hour
// counts once, unless the hour is given as * or */n.
//
// Cron returns an error if the expression is invalid or matches no date. It refuses
// "@every" and "TZ=": use [Every], and the argument in.
func Cron(expression string, in *time.Location) (Schedule, error) {
	if in == nil {
		in = time.UTC
	}
	fail := func(err error) (Schedule, error) {
		return nil, fmt.Errorf("schedule: cron expression %.60q: %w", expression, err)
	}
	expression = strings.TrimSpace(expression)
	switch {
	case strings.Contains(expression, "TZ="):
		return fail(errors.New("give the time zone as an argument instead"))
	case strings.HasPrefix(expression, "@every"):
		return fail(errors.New("use schedule.Every instead"))
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor | cron.DowOrDom)
	if err != nil {
		return fail(err)
	}
	parsed, err := parser.Parse(expression)
	if err != nil {
		return fail(err)
	}
	fields := strings.Fields(expression)
	hourly := expression == "@hourly" || len(fields) > 1 && strings.HasPrefix(fields[1], "*")
	s := cronSchedule{parsed, in, hourly}
	if s.Next(time.Now()).IsZero() {
		return fail(errors.New("the expression matches no date"))
	}
	return s, nil
}

type cronSchedule struct {
	fields cron.Schedule
	in     *time.Location
	hourly bool // the hour is * or */n
}

// Next implements [Schedule].
func (s cronSchedule) Next(t time.Time) time.Time {
	next := s.fields.Next(t.In(s.in))
	for !s.hourly && isRepeated(next) {
		next = s.fields.Next(next)
	}
	return next
}

// isRepeated reports whether a clock on the wall has shown the time of t shortly
// before t: it has been put back since.
func isRepeated(t time.Time) bool {
	const longest = 3 * time.Hour // no clock is put back by more
	_, now := t.Zone()
	_, before := t.Add(-longest).Zone()
	putBack := time.Duration(before-now) * time.Second
	if putBack <= 0 {
		return false
	}
	_, then := t.Add(-putBack).Zone()
	return then == before
}
