package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var testName = regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`")

// A promise is worth the test that shows it. A test that is renamed or deleted
// must not leave its promise alone.
func TestDocumentation_NamesExistingTests(t *testing.T) {
	tests := map[string]bool{}
	for _, file := range readSources(t) {
		for _, function := range file.functions() {
			tests[function.Name.Name] = tests[function.Name.Name] || file.isTest()
		}
	}
	named := 0
	for page, text := range readPages(t) {
		for _, match := range testName.FindAllStringSubmatch(text, -1) {
			named++
			if !tests[match[1]] {
				t.Errorf("%s names %s, which is not there", page, match[1])
			}
		}
	}
	if named == 0 {
		t.Error("no test is named")
	}
}

// The name of a test is a sentence: its subject, and what is promised of it. Those of Watermill's own suite have its names.
func TestTests_HaveSubjectAndPromiseInTheirNames(t *testing.T) {
	sentence := regexp.MustCompile(`^(Test|Fuzz)[A-Z]\w*_[A-Z]\w*$|^TestMain$|^TestWatermill[A-Z][a-z]+$`)
	for _, file := range readSources(t) {
		for _, function := range file.functions() {
			name := function.Name.Name
			if file.isTest() && function.Recv == nil && testFunction.MatchString(name) && !sentence.MatchString(name) {
				t.Errorf("%s: %s says no promise: name it Subject_Promise", fromRoot(t, file.name), name)
			}
		}
	}
}

var testFunction = regexp.MustCompile(`^(Test|Fuzz)[A-Z]`)

// readPages returns the Markdown files of the repository, by their names.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	pages := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "examples/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, page := range found {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			pages[fromRoot(t, page)] = string(text)
		}
	}
	return pages
}

// fromRoot returns the name of a file from the root of the repository.
func fromRoot(t *testing.T, path string) string {
	t.Helper()
	name, err := filepath.Rel(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(name)
}
