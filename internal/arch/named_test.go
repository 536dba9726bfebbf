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
	var pages []string
	for _, pattern := range []string{"/*.md", "/docs/*.md", "/docs/*/*.md"} {
		found, err := filepath.Glob(root + pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	named := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range testName.FindAllStringSubmatch(string(text), -1) {
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
