package docs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program that readers cannot find, or that no test runs, is no example.
func TestExamples_AreListedAndTested(t *testing.T) {
	t.Parallel()
	page := pageNamed(t, "examples/README.md")
	listed := strings.Join(page.links(), "\n")
	var programs []string
	for _, pattern := range []string{"/examples/*/main.go", "/examples/*/*/main.go"} {
		found, err := filepath.Glob(root + pattern)
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, found...)
	}
	for _, program := range programs {
		name, _ := filepath.Rel(root+"/examples", program)
		if !strings.Contains("\n"+listed+"\n", "\n"+filepath.ToSlash(name)+"\n") {
			t.Errorf("examples/README.md does not list %s", name)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(program), "main_test.go")); err != nil {
			t.Errorf("nothing tests examples/%s: %v", name, err)
		}
	}
	if len(programs) < 10 {
		t.Errorf("there are only %d programs", len(programs))
	}
}
