package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestSQL_FileSaysWhatItDoes(t *testing.T) {
	files := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".sql" || filepath.Base(filepath.Dir(path)) != "sql" {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		if err == nil {
			for _, complaint := range unexplained(string(text), legendOf(t, path)) {
				t.Errorf("%s: %s", path, complaint)
			}
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files of SQL: %v", files, err)
	}
}

func TestSQL_UnexplainedIsNoticed(t *testing.T) {
	for text, want := range map[string]string{
		"select 1":                     "it begins with no comment",
		"-- Reads one.\nselect $1, $2": "no comment explains $1",
		"-- Reads one.\n--\n-- Parameter: $1 id.\nselect $1": "",
		"-- Reads one.\nselect {most}":                       "no comment explains {most}",
		"-- Reads one.\nselect from {table}":                 "",
	} {
		if got := strings.Join(unexplained(text, "// {table} is the table."), ", "); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q instead of %q", text, got, want)
		}
	}
}

// legendOf returns the comments that explain what is in braces in a file of SQL, besides its own: those of its package,
// and those of all SQL of ezq.
func legendOf(t *testing.T, path string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(path)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s is of no package: %v", path, err)
	}
	var comments strings.Builder
	for _, file := range append(files, filepath.Join(root, "backend/pgmq/internal/sqlfile/sqlfile.go")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "//") {
				comments.WriteString(line)
			}
		}
	}
	return comments.String()
}

// unexplained returns what neither the comments of a file of SQL nor a legend say.
func unexplained(text, legend string) (complaints []string) {
	if !strings.HasPrefix(text, "-- ") {
		complaints = append(complaints, "it begins with no comment")
	}
	var comments, statement strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "--") {
			comments.WriteString(line)
		} else {
			statement.WriteString(line)
		}
	}
	parameters := regexp.MustCompile(`\$\d|\{[a-z. ]+\}`).FindAllString(statement.String(), -1)
	slices.Sort(parameters)
	for _, parameter := range slices.Compact(parameters) {
		explained := comments.String()
		if strings.HasPrefix(parameter, "{") {
			explained += legend
		}
		if !strings.Contains(explained, parameter) {
			complaints = append(complaints, "no comment explains "+parameter)
		}
	}
	return complaints
}
