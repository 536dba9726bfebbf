package work

import (
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

// order returns the numbers below n: forwards in even rounds and backwards in odd ones, and
// beginning elsewhere in each.
func order(n, round int) []int {
	numbers := make([]int, n)
	for i := range numbers {
		numbers[i] = (i + round*3) % n
	}
	if round%2 == 1 {
		slices.Reverse(numbers)
	}
	return numbers
}

func describe(s result.Sample, metric result.Metric) string {
	if s.Problem != "" {
		return "FAILED: " + s.Problem
	}
	return strconv.FormatFloat(s.Values[metric], 'f', 2, 64) + " " + string(metric)
}

// load returns the load of the machine over the last minute, or 0 where that is not known.
func load() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	n, _ := strconv.ParseFloat(first, 64) // the kernel writes a number
	return n
}
