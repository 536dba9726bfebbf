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
			for _, complaint := range unexplained(string(text)) {
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
	} {
		if got := strings.Join(unexplained(text), ", "); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q: %q instead of %q", text, got, want)
		}
	}
}

// unexplained returns what the comments of a file of SQL do not say.
func unexplained(text string) (complaints []string) {
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
	parameters := regexp.MustCompile(`\$\d`).FindAllString(statement.String(), -1)
	slices.Sort(parameters)
	for _, parameter := range slices.Compact(parameters) {
		if !strings.Contains(comments.String(), parameter) {
			complaints = append(complaints, "no comment explains "+parameter)
		}
	}
	return complaints
}
