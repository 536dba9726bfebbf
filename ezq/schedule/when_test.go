package schedule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ezq-go/ezq/ezq/schedule"
)

// ticks returns the first n ticks after a time, as a clock in the zone shows them.
func ticks(s schedule.Schedule, after time.Time, zone *time.Location, n int) (shown []string) {
	for range n {
		after = s.Next(after)
		shown = append(shown, after.In(zone).Format("Jan 2 15:04:05 MST"))
	}
	return shown
}

func mustCron(t *testing.T, expression string, in *time.Location) schedule.Schedule {
	t.Helper()
	s, err := schedule.Cron(expression, in)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEvery_CountsFromSameMomentEverywhere(t *testing.T) {
	t.Parallel()
	s := schedule.Every(90 * time.Minute)
	for _, start := range []time.Time{
		time.Date(2026, 11, 26, 0, 0, 1, 0, time.UTC), time.Date(2026, 11, 26, 1, 29, 59, 999, time.FixedZone("", 0)),
	} {
		want := []string{"Nov 26 01:30:00 UTC", "Nov 26 03:00:00 UTC"}
		if got := ticks(s, start, time.UTC, 2); !slices.Equal(got, want) {
			t.Errorf("from %v: %v, not %v", start, got, want)
		}
	}
	if got := ticks(schedule.Every(time.Hour), time.Date(1969, 12, 31, 22, 30, 0, 0, time.UTC), time.UTC, 1); got[0] != "Dec 31 23:00:00 UTC" {
		t.Errorf("before 1970: %v", got)
	}
}

func TestCron_UsesItsOwnZone(t *testing.T) {
	t.Parallel()
	berlin := zone(t)
	start := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		expression string
		in         *time.Location
		want       string // in UTC
	}{
		{"30 2 * * *", nil, "Jul 2 02:30:00 UTC"},
		{"30 2 * * *", berlin, "Jul 2 00:30:00 UTC"},
		{"@daily", berlin, "Jul 1 22:00:00 UTC"},
		{"*/10 8-17 * * MON-FRI", berlin, "Jul 1 12:10:00 UTC"},
		{"0 0 13 * FRI", nil, "Jul 3 00:00:00 UTC"}, // any Friday, and any 13th
		{" 0 0 29 2 * ", nil, "Feb 29 00:00:00 UTC"},
	} {
		s := mustCron(t, c.expression, c.in)
		for _, from := range []time.Time{start, start.In(time.FixedZone("", -9*3600))} {
			if got := ticks(s, from, time.UTC, 1); got[0] != c.want {
				t.Errorf("%q: %v, not %v", c.expression, got[0], c.want)
			}
		}
	}
}

func zone(t *testing.T) *time.Location {
	t.Helper()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("there is no time zone database: ", err)
	}
	return berlin
}

func TestCron_HandlesDaylightSavingChanges(t *testing.T) {
	t.Parallel()
	berlin := zone(t)
	spring, autumn := time.Date(2026, 3, 28, 12, 0, 0, 0, berlin), time.Date(2026, 10, 24, 12, 0, 0, 0, berlin)
	for _, c := range []struct {
		expression string
		from       time.Time
		want       []string
	}{
		// 2:30 is left out: as if the clock had not been put forward
		{"30 2 * * *", spring, []string{"Mar 29 03:30:00 CEST", "Mar 30 02:30:00 CEST"}},
		// 2:30 comes twice, and counts once
		{"30 2 * * *", autumn, []string{"Oct 25 02:30:00 CEST", "Oct 26 02:30:00 CET"}},
		// every hour is every hour
		{"30 * * * *", time.Date(2026, 3, 29, 1, 0, 0, 0, berlin), []string{"Mar 29 01:30:00 CET", "Mar 29 03:30:00 CEST"}},
		{"30 * * * *", time.Date(2026, 10, 25, 1, 45, 0, 0, berlin), []string{"Oct 25 02:30:00 CEST", "Oct 25 02:30:00 CET", "Oct 25 03:30:00 CET"}},
	} {
		if got := ticks(mustCron(t, c.expression, berlin), c.from, berlin, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, not %v", c.expression, got, c.want)
		}
	}
}

func TestCron_RefusesWrongExpressionWithReason(t *testing.T) {
	t.Parallel()
	for expression, want := range map[string]string{
		"":                   "empty",
		"* * * *":            "5 fields",
		"* * * * * *":        "5 fields",
		"60 * * * *":         "60",
		"0 0 30 2 *":         "matches no date",
		"@every 1h":          "use schedule.Every",
		"@reboot":            "@reboot",
		"TZ=0":               "as an argument",
		"CRON_TZ=UTC @daily": "as an argument",
	} {
		_, err := schedule.Cron(expression, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprintf("%q", expression)) {
			t.Errorf("%q: %v, which does not say %q", expression, err, want)
		}
	}
}

func FuzzCron_NeverPanics(f *testing.F) {
	for _, seed := range []string{"30 2 * * *", "TZ=0", "@daily", "*/0 * * * *", "1-5/2,7 * L * 5#3", "0 0 31 2 *"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		s, err := schedule.Cron(expression, nil)
		if err != nil {
			return
		}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 5 {
			next := s.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) {
				t.Fatalf("%q: after %v comes %v", expression, at, next)
			}
			at = next
		}
	})
}
