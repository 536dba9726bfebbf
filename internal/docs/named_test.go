package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A path of the repository begins with one of its directories. Import paths and tags of nested
// modules, such as otel/v0.1.0, are none.
var (
	pathName   = regexp.MustCompile(`(?:^|[\s"'(=\x60]|\./)((?:scripts|docs|examples|internal|backend|ezq|middleware|conformance|bench|otel|tools|\.ci)/[\w./-]*\w)`)
	tagName    = regexp.MustCompile(`/v\d`)
	targetName = regexp.MustCompile(`(?m)(?:^|[\s\x60])make ([a-z][a-z-]*)`)
	goName     = regexp.MustCompile(`(?:^|[^\w./])(ezq|ezqtest|ezqenv|schedule|pgmq|pgmqtest|memory|backend|middleware|conformance|ezqotel|pgmqotel)\.([A-Z]\w*)`)
)

func TestDocumentation_NamesExistingPaths(t *testing.T) {
	t.Parallel()
	for _, page := range readPages(t) {
		for _, match := range pathName.FindAllStringSubmatch(page.code(), -1) {
			if tagName.MatchString(match[1]) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, match[1])); err != nil {
				t.Errorf("%s names %s, which is not there", page.name, match[1])
			}
		}
	}
}

func TestDocumentation_NamesExistingMakeTargets(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range readPages(t) {
		for _, match := range targetName.FindAllStringSubmatch(page.code(), -1) {
			if !strings.Contains(string(makefile), "\n"+match[1]+":") {
				t.Errorf("%s names make %s, which is not there", page.name, match[1])
			}
		}
	}
}

func TestDocumentation_NamesExistingGoNames(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	for _, page := range readPages(t) {
		for _, match := range goName.FindAllStringSubmatch(page.code(), -1) {
			if !packages.has(match[1], match[2]) {
				t.Errorf("%s names %s.%s, which is not there", page.name, match[1], match[2])
			}
		}
	}
}

func TestDocumentation_MissingNamesAreFound(t *testing.T) {
	t.Parallel()
	text := parsePage("x.md", "Run `make nothing`, `scripts/nothing` and `go run ./examples/nothing`; call `ezq.Nothing(x)`.\n").code()
	for what, matches := range map[string][][]string{
		"make target": targetName.FindAllStringSubmatch(text, -1),
		"Go name":     goName.FindAllStringSubmatch(text, -1),
	} {
		if len(matches) != 1 || !strings.EqualFold(matches[0][len(matches[0])-1], "nothing") {
			t.Errorf("%s: %q", what, matches)
		}
	}
	if paths := pathName.FindAllStringSubmatch(text, -1); len(paths) != 2 {
		t.Errorf("paths: %q", paths)
	}
	if loadPackages(t).has("ezq", "Nothing") || !loadPackages(t).has("ezq", "Publish") {
		t.Error("names are not looked up")
	}
}

// has reports whether a package, known by its name, exports something.
func (k *packageIndex) has(pkg, name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	imported, err := k.types.Import(k.byName[pkg])
	return err == nil && imported.Scope().Lookup(name) != nil
}
