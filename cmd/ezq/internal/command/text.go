package command

import (
	"fmt"
	"time"

	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

// timeFormat names the zone, since the servers, the operators and their logs may have several.
const timeFormat = time.DateTime + " UTC"

func timeText(t time.Time) string { return t.UTC().Format(timeFormat) }

func timeOrDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return timeText(t)
}

func orDash(name string) string {
	if name == "" {
		return "-"
	}
	return terminal.Printable(name)
}

// count says that it was not counted to the end.
func count(n int, capped bool) string {
	if capped {
		return fmt.Sprintf("%d or more", n)
	}
	return fmt.Sprint(n)
}

func failures(n int) string {
	if n == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures", n)
}

func deliveries(n int) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

// rounded is as exact as an operator needs to decide what to do.
func rounded(d time.Duration) time.Duration {
	if d > time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// source names a topic, and a group of its consumers.
func source(topic, group string) string {
	if group == "" {
		return terminal.Printable(topic)
	}
	return terminal.Printable(topic) + " (group " + terminal.Printable(group) + ")"
}

func unreadable(err error) string { return "cannot be read: " + terminal.SingleLine(err.Error()) }
