package conformance

import (
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
)

// A goroutine inherits its labels from the one that starts it. So all goroutines of a
// case are known, also while other cases run beside it.
const caseLabel = "conformance"

// labelled runs f, and every goroutine that it starts, as part of the run of a case.
func labelled(id string, f func()) {
	pprof.Do(context.Background(), pprof.Labels(caseLabel, id), func(context.Context) { f() })
}

// goroutinesOf says, for each place in which there are goroutines of a case, how many
// they are and where.
func goroutinesOf(id string) (places []string) {
	var profile strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&profile, 1) // a Builder takes everything
	mark := fmt.Sprintf("%q:%q", caseLabel, id)
	_, groups, _ := strings.Cut(profile.String(), "\n") // the first line is of all of them
	for group := range strings.SplitSeq(groups, "\n\n") {
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

// firstFrame returns the place in a stack, as debug.Stack writes it, that comes after
// the given function and is not the runtime's: ", in f at file:line".
func firstFrame(stack, after string) string {
	lines := strings.Split(stack, "\n")
	for i := range lines {
		if !strings.HasPrefix(lines[i], after) {
			continue
		}
		for j := i + 2; j+1 < len(lines); j += 2 {
			if !strings.HasPrefix(lines[j], "runtime.") && !strings.HasPrefix(lines[j], "panic(") {
				place, _, _ := strings.Cut(strings.TrimSpace(lines[j+1]), " +0x")
				return fmt.Sprintf(", in %s at %s", functionName(lines[j]), place)
			}
		}
	}
	return ""
}

// functionName cuts the arguments off.
func functionName(line string) string {
	if i := strings.LastIndexByte(line, '('); i > 0 {
		return line[:i]
	}
	return line
}
