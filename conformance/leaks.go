package conformance

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"
)

// leakTimeout is how long the goroutines of a case may take to end after everything
// was closed.
const leakTimeout = 10 * time.Second

// A goroutine inherits its labels from the one that starts it. So all goroutines of a
// case are known, also while other cases run beside it.
const caseLabel = "conformance"

// labelled runs f, and every goroutine that it starts, as part of the case.
func (h *harness) labelled(f func()) {
	pprof.Do(context.Background(), pprof.Labels(caseLabel, h.id), func(context.Context) { f() })
}

// checkLeaks fails if a goroutine of the case goes on.
func (h *harness) checkLeaks() {
	deadline := time.Now().Add(leakTimeout)
	for pause := time.Millisecond; ; pause *= 5 { // each look takes a while if a process has many goroutines
		left := h.goroutines()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			h.record("goroutines are left %v after everything was closed: %s", leakTimeout, strings.Join(left, "; "))
			return
		}
		time.Sleep(pause)
	}
}

// locations says where the goroutines of the case are.
func (h *harness) locations() string {
	if doing := h.currentStep(); doing != "" {
		return ", in " + doing
	}
	if places := h.goroutines(); len(places) > 0 {
		return ": " + strings.Join(places, "; ")
	}
	return ""
}

// goroutines says, for each place in which there are goroutines of the case, how many
// they are and where.
func (h *harness) goroutines() (places []string) {
	var profile strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // a Builder takes everything
	mark := fmt.Sprintf("%q:%q", caseLabel, h.id)
	for group := range strings.SplitSeq(profile.String(), "\n\n") {
		lines := strings.Split(group, "\n")
		if len(lines) < 2 || !strings.Contains(lines[1], mark) {
			continue
		}
		count, _, _ := strings.Cut(lines[0], " @")
		places = append(places, count+" in "+place(lines[2:]))
	}
	return places
}

// place returns the innermost function of a stack that is not the standard library's,
// or else the innermost one.
func place(frames []string) string {
	innermost := "an unknown function"
	for i, frame := range frames {
		fields := strings.Fields(frame) // # address function+offset file:line
		if len(fields) < 4 {
			continue
		}
		function, _, _ := strings.Cut(fields[2], "+0x")
		if first, _, _ := strings.Cut(function, "/"); strings.Contains(first, ".") && strings.Contains(function, "/") {
			return function
		}
		if i == 0 {
			innermost = function
		}
	}
	return innermost
}
