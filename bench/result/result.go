// Package result keeps what has been measured, and compares it.
package result

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/ezq-go/ezq/bench/measure"
)

// Run is all that one run of the benchmark has measured.
type Run struct {
	Started time.Time
	Seconds float64 // how long it took
	Host    Host
	Works   []Work
}

// Host is where it was measured.
type Host struct {
	Cores    int
	System   string
	Versions map[string]string
	Settings map[string]string // of the server
}

// Work is what all entrants had to do.
type Work struct {
	Name      string
	Title     string
	Metric    Metric // that decides
	Reference string // the entrant that the others are compared with
	Outcomes  []Outcome
}

// Outcome is how an entrant did, once for each round.
type Outcome struct {
	Entrant  string
	Settings string
	Samples  []Sample
}

// Sample is one measurement.
type Sample struct {
	Round   int
	Load    float64 // of the machine, in the minute before
	Values  map[Metric]float64
	Problem string `json:",omitempty"` // what the entrant did wrong
}

// Metric is a quantity that is measured.
type Metric string

// The metrics.
const (
	Rate       Metric = "messages/s"
	ClientCPU  Metric = "client µs"
	ServerCPU  Metric = "server µs"
	Allocs     Metric = "allocs"
	WAL        Metric = "WAL bytes"
	P50        Metric = "p50 ms"
	P95        Metric = "p95 ms"
	P99        Metric = "p99 ms"
	Statements Metric = "statements/s"
	IdleClient Metric = "client ms/s"
	IdleServer Metric = "server ms/s"
)

// Metrics returns all metrics, in the order of the columns of a table.
func Metrics() []Metric {
	return []Metric{
		Rate, P50, P95, P99, ClientCPU, ServerCPU, Allocs, WAL, Statements, IdleClient, IdleServer,
	}
}

// LowerIsBetter tells whether less of it is better.
func (m Metric) LowerIsBetter() bool { return m != Rate }

// Outcome returns the outcome of an entrant.
func (w Work) Outcome(entrant string) (Outcome, bool) {
	for _, o := range w.Outcomes {
		if o.Entrant == entrant {
			return o, true
		}
	}
	return Outcome{}, false
}

// Problem returns what the entrant did wrong, or "".
func (o Outcome) Problem() string {
	for _, s := range o.Samples {
		if s.Problem != "" {
			return s.Problem
		}
	}
	return ""
}

// Median returns the median of a metric over the rounds in which nothing went wrong. It is NaN if
// there is none.
func (o Outcome) Median(metric Metric) float64 {
	var values []float64
	for _, s := range o.Samples {
		if v, ok := s.Values[metric]; ok && s.Problem == "" {
			values = append(values, v)
		}
	}
	return measure.Median(values)
}

// RefusedError says why two entrants are not compared.
type RefusedError struct{ Work, Entrant, Reason string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s: %s: %s", e.Work, e.Entrant, e.Reason)
}

// Ratio returns how many times as good as b a is at the metric: the median of the ratios of the
// single rounds, since a machine that is slower in one round is so for both. It fails with a
// *RefusedError if either lost, duplicated or failed anything, in whatever round.
func (w Work) Ratio(metric Metric, a, b string) (float64, error) {
	ours, err := w.comparable(a)
	if err != nil {
		return 0, err
	}
	theirs, err := w.comparable(b)
	if err != nil {
		return 0, err
	}
	values := make(map[int]float64)
	for _, s := range theirs.Samples {
		if v, ok := s.Values[metric]; ok {
			values[s.Round] = v
		}
	}
	var ratios []float64
	for _, s := range ours.Samples {
		v, mine := s.Values[metric]
		other, both := values[s.Round]
		if mine && both && v > 0 && other > 0 {
			if metric.LowerIsBetter() {
				v, other = other, v
			}
			ratios = append(ratios, v/other)
		}
	}
	if len(ratios) == 0 {
		return 0, &RefusedError{w.Name, b, "there is no round in which both were measured"}
	}
	return measure.Median(ratios), nil
}

func (w Work) comparable(entrant string) (Outcome, error) {
	o, ok := w.Outcome(entrant)
	if !ok {
		return o, &RefusedError{w.Name, entrant, "it was not measured"}
	}
	if problem := o.Problem(); problem != "" {
		return o, &RefusedError{w.Name, entrant, problem}
	}
	return o, nil
}

// Work returns the work of that name.
func (r Run) Work(name string) (Work, bool) {
	for _, w := range r.Works {
		if w.Name == name {
			return w, true
		}
	}
	return Work{}, false
}

// Load reads a run from a file.
func Load(file string) (run Run, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return run, fmt.Errorf("result: %w", err)
	}
	if err := json.Unmarshal(text, &run); err != nil {
		return run, fmt.Errorf("result: %s is not a run: %w", file, err)
	}
	return run, nil
}

// Save writes the run to a file.
func (r Run) Save(file string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("result: %w", err)
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("result: %w", err)
	}
	return nil
}
