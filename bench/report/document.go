package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ezq-go/ezq/bench/result"
)

// Write writes results.json, tables.md and a plot for each work into a directory.
func Write(run result.Run, directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := run.Save(filepath.Join(directory, "results.json")); err != nil {
		return err
	}
	files := plots(run)
	files["tables.md"] = "# Measured\n\n" + conditions(run) + "\n" + Targets(run) + "\n" + Tables(run)
	return writeAll(directory, files)
}

// plots returns the plots by the names of their files.
func plots(run result.Run) map[string]string {
	files := make(map[string]string)
	for _, w := range run.Works {
		files[w.Name+".svg"] = plot(w)
	}
	return files
}

func writeAll(directory string, files map[string]string) error {
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return nil
}

// Where the documentation of a repository keeps what was measured.
const (
	measuredIn = "docs/performance"
	resultsAt  = measuredIn + "/results.json"
)

// sections says what goes between which marks of which file: <!-- bench:summary --> and so on, to
// <!-- bench:end -->.
func sections() []section {
	return []section{
		{"README.md", "summary", Summary},
		{"docs/performance.md", "conditions", conditions},
		{"docs/performance.md", "summary", Summary},
		{"docs/performance.md", "targets", Targets},
		{"docs/performance.md", "tables", illustrated},
	}
}

type section struct {
	file, marker string
	text         func(result.Run) string
}

// Document writes the results into the documentation of the repository at root.
func Document(run result.Run, root string) error {
	directory := filepath.Join(root, measuredIn)
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := run.Save(filepath.Join(root, resultsAt)); err != nil {
		return err
	}
	if err := writeAll(directory, plots(run)); err != nil {
		return err
	}
	for _, s := range sections() {
		file := filepath.Join(root, s.file)
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("report: %w", err)
		}
		updated, err := s.insert(string(text), run)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(updated), 0o644); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
	return nil
}

var errNoMarker = errors.New("report: the mark is missing")

// insert replaces what is between the marks.
func (s section) insert(text string, run result.Run) (string, error) {
	begin, end := "<!-- bench:"+s.marker+" -->\n", "<!-- bench:end -->"
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("%w: %s in %s", errNoMarker, strings.TrimSpace(begin), s.file)
	}
	return before + begin + s.text(run) + end + after, nil
}

func conditions(run result.Run) string {
	versions := run.Host.Versions
	return fmt.Sprintf("Measured %s in %.0f minutes: %s, %d cores for clients and server together; PostgreSQL %s, fsync %s, "+
		"synchronous_commit %s, full_page_writes %s; Go %s, pgx %s, Watermill %s, watermill-sql %s, River %s.\n",
		run.Started.Format("2006-01-02 15:04 UTC"), run.Seconds/60, run.Host.System, run.Host.Cores,
		firstWord(run.Host.Settings["server_version"]), run.Host.Settings["fsync"], run.Host.Settings["synchronous_commit"],
		run.Host.Settings["full_page_writes"], versions["Go"], versions["github.com/jackc/pgx/v5"],
		versions["github.com/ThreeDotsLabs/watermill"], versions["github.com/ThreeDotsLabs/watermill-sql/v4"],
		versions["github.com/riverqueue/river"])
}

func illustrated(run result.Run) string {
	var b strings.Builder
	for _, w := range run.Works {
		b.WriteString(table(w))
		fmt.Fprintf(&b, "\n![%s](performance/%s.svg)\n\n", w.Name, w.Name)
	}
	return b.String()
}
