package measure

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of the times in /proc/PID/stat. Linux has reported it as 10 ms for decades.
const tick = 10 * time.Millisecond

// serverCPU returns the CPU time of all processes of a server, also of those that have ended:
// the postmaster has waited for them. It returns 0 where there is no /proc, or no such process.
func serverCPU(postmaster int) time.Duration {
	if postmaster <= 1 {
		return 0
	}
	own, ok := readStat(postmaster)
	if !ok {
		return 0
	}
	total := own.ended + runtimeOf(postmaster)
	for _, child := range childrenOf(postmaster) {
		total += runtimeOf(child)
	}
	return total
}

func childrenOf(parent int) (children []int) {
	lists, err := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
	if err != nil {
		return nil
	}
	for _, list := range lists {
		text, _ := os.ReadFile(list) // a thread that has just ended has no children
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				children = append(children, pid)
			}
		}
	}
	return children
}

// runtimeOf returns the CPU time of a process, in nanoseconds where the kernel counts them.
func runtimeOf(pid int) time.Duration {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err == nil {
		first, _, _ := strings.Cut(string(text), " ")
		if nanoseconds, err := strconv.ParseInt(first, 10, 64); err == nil && nanoseconds > 0 {
			return time.Duration(nanoseconds)
		}
	}
	s, _ := readStat(pid)
	return s.running
}

// parentOf returns the parent of a process, or 0.
func parentOf(pid int) int {
	s, _ := readStat(pid)
	return s.parent
}

type stat struct {
	parent  int
	running time.Duration // of the process itself
	ended   time.Duration // of its children that have ended
}

func readStat(pid int) (s stat, ok bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, false
	}
	// The name of the program is in parentheses, and may itself have spaces and parentheses.
	line := string(text)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 15 {
		return s, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(fields[i], 10, 64) // the kernel writes numbers
		return n
	}
	s.parent = int(number(1))
	s.running = time.Duration(number(11)+number(12)) * tick
	s.ended = time.Duration(number(13)+number(14)) * tick
	return s, true
}
