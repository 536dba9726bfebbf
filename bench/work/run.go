package work

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/bench/contender"
	"github.com/ezq-go/ezq/bench/result"
)

// Run lets everybody do the work, round by round. In each round all take their turn, in another
// order than in the round before, so that what drifts meets all alike. It reports to progress.
func (l *Lab) Run(ctx context.Context, works []Work, progress io.Writer) ([]result.Work, error) {
	byName := make(map[string]contender.Contender)
	for _, c := range contender.All() {
		byName[c.Name] = c
	}
	var results []result.Work
	for _, w := range works {
		measured, err := l.one(ctx, w, byName, progress)
		if err != nil {
			return results, err
		}
		results = append(results, measured)
	}
	return results, nil
}

func (l *Lab) one(
	ctx context.Context, w Work, byName map[string]contender.Contender, progress io.Writer,
) (result.Work, error) {
	measured := result.Work{Name: w.Name, Title: w.Title, Metric: w.Metric, Reference: w.Reference}
	for _, e := range w.Entrants {
		c, ok := byName[e.Contender]
		if !ok {
			return measured, fmt.Errorf("work: %s: there is no contender %q", w.Name, e.Contender)
		}
		measured.Outcomes = append(measured.Outcomes, result.Outcome{Entrant: e.Name, Settings: c.Settings})
	}
	for round := range l.scale.Rounds {
		for _, i := range order(len(w.Entrants), round) {
			e := w.Entrants[i]
			sample := result.Sample{Round: round, Load: load()}
			values, err := e.task.run(ctx, l, byName[e.Contender])
			if ctx.Err() != nil {
				return measured, ctx.Err()
			}
			sample.Values = values
			if err != nil {
				sample.Values, sample.Problem = nil, err.Error()
			}
			measured.Outcomes[i].Samples = append(measured.Outcomes[i].Samples, sample)
			_, _ = fmt.Fprintf(progress, "%s %s round %d, %s: %s\n",
				time.Now().Format(time.TimeOnly), w.Name, round+1, e.Name, describe(sample, w.Metric))
		}
	}
	return measured, nil
}

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
