// Report runs the conformance suite on every backend that can be reached, and writes
// what it has found to docs/brokers.md and docs/brokers.json:
//
//	scripts/pgmq run scripts/brokers run env -C conformance/brokers go run ./report
//
// With -render it writes the tables again, of what is in docs/brokers.json.
// With -check it runs nothing, and fails unless the tables are what docs/brokers.json
// says and that file knows every case and every backend, with its version.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/ezq-go/ezq/conformance"
	"github.com/ezq-go/ezq/conformance/brokers"
)

// finding is what the suite has found in one backend.
type finding struct {
	Backend string              `json:"backend"`
	Version string              `json:"version"`
	Mode    string              `json:"mode"`
	Ours    bool                `json:"ours"`
	Missing string              `json:"missing,omitempty"` // why it was not run
	Crash   string              `json:"crash,omitempty"`   // with which the process ended in a run before this one
	Results conformance.Results `json:"results,omitempty"`
}

// mark is the outcome of a case as a sign.
func (f finding) mark(i int) string {
	if i >= len(f.Results) { // of another suite; report-check says so
		return ""
	}
	return map[conformance.Outcome]string{
		conformance.Passed: "✓", conformance.Failed: "✗", conformance.Bonus: "(✓)", conformance.Skipped: "·",
	}[f.Results[i].Outcome]
}

func (f finding) title() string { return f.Backend + ", " + f.Mode }

func main() {
	root := flag.String("root", "../..", "directory of the repository")
	check := flag.Bool("check", false, "only check that the tables are up to date")
	one := flag.String("examine", "", "only examine the backend with this title, and print what was found as JSON")
	only := flag.String("only", "", "print what fails in the backends with this in their titles, and write nothing")
	again := flag.Bool("render", false, "only write the tables again, from docs/brokers.json")
	flag.Parse()
	work := write
	if *again {
		work = render
	}
	if *check {
		work = verify
	}
	if *one != "" {
		work = func(ctx context.Context, _ string) error { return examineOne(ctx, *one) }
	}
	if *only != "" {
		work = func(ctx context.Context, _ string) error { return show(ctx, *only) }
	}
	if err := work(context.Background(), *root); err != nil {
		log.Fatal("report: ", err)
	}
}

// show is for who writes a backend, or looks for the cause of a failure.
func show(ctx context.Context, part string) error {
	findings, err := examineAll(ctx, func(b brokers.Backend) bool { return strings.Contains(b.Title(), part) })
	if err != nil {
		return err
	}
	for _, f := range findings {
		if _, err := os.Stdout.WriteString(section(f)); err != nil {
			return err
		}
	}
	return nil
}

func every(brokers.Backend) bool { return true }

func write(ctx context.Context, root string) error {
	findings, err := examineAll(ctx, every)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(findings, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(jsonPath(root), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return render(ctx, root)
}

// render writes the tables of what has been found before.
func render(_ context.Context, root string) error {
	text, err := os.ReadFile(jsonPath(root))
	if err != nil {
		return err
	}
	var findings []finding
	if err := json.Unmarshal(text, &findings); err != nil {
		return err
	}
	for path, content := range documents(root, findings) {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// verify compares what does not depend on a run.
func verify(_ context.Context, root string) error {
	text, err := os.ReadFile(jsonPath(root))
	if err != nil {
		return err
	}
	var findings []finding
	if err := json.Unmarshal(text, &findings); err != nil {
		return err
	}
	if err := complete(findings); err != nil {
		return fmt.Errorf("%w: run the report again", err)
	}
	for path, want := range documents(root, findings) {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			return fmt.Errorf("%s is stale: run the report again", path)
		}
	}
	return nil
}

func complete(findings []finding) error {
	all := brokers.All()
	if len(findings) != len(all) {
		return errors.New("there is another number of backends")
	}
	for i, b := range all {
		f := findings[i]
		if f.Backend != b.Name || f.Mode != b.Mode || f.Version != b.Version() {
			return fmt.Errorf("%s %s is not reported", b.Title(), b.Version())
		}
		if f.Missing == "" && !sameCases(f.Results) {
			return fmt.Errorf("%s has been examined with other cases", b.Title())
		}
	}
	return nil
}

func sameCases(results conformance.Results) bool {
	cases := conformance.Cases()
	if len(results) != len(cases) {
		return false
	}
	for i, c := range cases {
		if results[i].Theme+"/"+results[i].Name != c.Title() || results[i].Sentence != c.Sentence {
			return false
		}
	}
	return true
}

func jsonPath(root string) string { return filepath.Join(root, "docs", "brokers.json") }
