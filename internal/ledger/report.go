package ledger

import (
	"fmt"
	"strings"
	"time"
)

// Report is the account. It marshals to JSON.
type Report struct {
	Stored    int `json:"stored"`
	Rejected  int `json:"rejected"`
	Unknown   int `json:"unknown"`
	Recovered int `json:"recovered"` // of the unknown: those that turned out to be stored
	Delivered int `json:"delivered"` // messages, however often
	Removed   int `json:"removed"`   // stored, never delivered, and removed by others

	Lost       []string `json:"lost"`       // stored, and never delivered
	Unexpected []string `json:"unexpected"` // delivered, and never stored
	Early      []string `json:"early"`      // delivered before they were due

	Duplicates  int            `json:"duplicates"` // deliveries beyond the first of each message
	Causes      map[string]int `json:"causes"`     // of the duplicates
	Unexplained []string       `json:"unexplained"`

	LongestGap time.Duration `json:"longest_gap_ns"` // between two deliveries
}

func (r *Report) add(id string, a *history, mayBeRemoved bool) {
	there := len(a.deliveries) > 0
	switch a.outcome {
	case Stored:
		r.Stored++
		switch {
		case !there && mayBeRemoved:
			r.Removed++
		case !there:
			r.Lost = append(r.Lost, id)
		}
	case Unknown:
		r.Unknown++
		if there {
			r.Recovered++
		}
	case Rejected:
		r.Rejected++
	}
	if there {
		r.Delivered++
		if a.outcome != Stored && a.outcome != Unknown {
			r.Unexpected = append(r.Unexpected, id)
		}
		if a.deliveries[0].at.Before(a.due) {
			r.Early = append(r.Early, id)
		}
	}
}

// Wrong returns what must not be: messages lost, unexpected or early, and duplicates without a
// cause. It is empty if everything is in order.
func (r Report) Wrong() string {
	var wrong []string
	for _, list := range []struct {
		what string
		ids  []string
	}{
		{"stored and never delivered", r.Lost},
		{"delivered and never stored", r.Unexpected},
		{"delivered before they were due", r.Early},
		{"delivered more than once for no reason", r.Unexplained},
	} {
		if n := len(list.ids); n > 0 {
			wrong = append(wrong, fmt.Sprintf("%d messages were %s: %s", n, list.what, strings.Join(list.ids[:min(n, 10)], ", ")))
		}
	}
	if r.Stored == 0 {
		wrong = append(wrong, "nothing was stored")
	}
	if r.Stored > 0 && r.Delivered == 0 && len(r.Lost) == 0 {
		wrong = append(wrong, "nothing was delivered")
	}
	return strings.Join(wrong, "\n")
}

// String says it in a line.
func (r Report) String() string {
	removed := ""
	if r.Removed > 0 {
		removed = fmt.Sprintf(", removed by others %d", r.Removed)
	}
	return fmt.Sprintf("published: %d stored, %d rejected, %d unknown of which %d were stored; delivered: %d, lost %d, unexpected %d%s; %d duplicates %v",
		r.Stored, r.Rejected, r.Unknown, r.Recovered, r.Delivered, len(r.Lost), len(r.Unexpected), removed, r.Duplicates, r.Causes)
}
