package docs

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// public are the packages that users import.
var public = []string{
	"backend", "backend/memory", "backend/pgmq", "backend/pgmq/pgmqtest", "conformance", "ezq", "ezq/ezqenv",
	"ezq/ezqtest", "ezq/schedule", "middleware", "otel", "otel/pgmqotel",
}

func TestComments_BeginWithExportedName(t *testing.T) {
	t.Parallel()
	for _, dir := range public {
		for _, complaint := range uncommented(parsePackage(t, dir)) {
			t.Errorf("%s: %s", dir, complaint)
		}
	}
}

// A package of which an example would need a server has a test instead, to which it leads the reader.
func TestPackages_HaveExecutedExample(t *testing.T) {
	t.Parallel()
	for _, dir := range public {
		if pkg := parsePackage(t, dir); !hasExample(pkg) && !namesATest(t, dir, pkg.Doc) {
			t.Errorf("%s: no example has an output, and the package's comment names no test that exists", dir)
		}
	}
}

func TestComments_MissingOnesAreFound(t *testing.T) {
	t.Parallel()
	poor := packageOf(t, map[string]string{"a.go": `// Package a is an example.
package a

func F() {}

// This is T.
type T struct{}

// Does something.
func (T) M() {}

type I interface { M() }

const A, B = 1, 2

var V int // what it is, V does not say

// Every E is one.
const (
	E1 = iota // one
	E2
)
`, "a_test.go": `package a

func ExampleF() {}
`})
	want := []string{"A", "B", "E2", "F", "I", "I.M", "T", "T.M", "V"}
	if got := uncommented(poor); !slices.Equal(got, want) {
		t.Errorf("found %q, not %q", got, want)
	}
	if hasExample(poor) {
		t.Error("an example that is not executed counts")
	}
	if namesATest(t, "internal/docs", "See TestWhatIsNot.") || !namesATest(t, "internal/docs", "See TestReadme_LeadsNewcomerToHandledEvent.") {
		t.Error("tests are not looked up")
	}
}

// parsePackage reads a package of the repository as pkg.go.dev does, with its examples.
func parsePackage(t *testing.T, dir string) *doc.Package {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s has no Go files: %v", dir, err)
	}
	sources := map[string]any{}
	for _, name := range names {
		sources[name] = nil
	}
	return packageOf(t, sources)
}

// packageOf parses files, whose text is given or else read.
func packageOf[T any](t *testing.T, sources map[string]T) *doc.Package {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		file, err := parser.ParseFile(files, name, sources[name], parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	pkg, err := doc.NewFromFiles(files, parsed, "x")
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// uncommented returns what has no comment that begins with its name, in order. For a method of an
// interface it is enough that the comment of the interface speaks of it.
func uncommented(pkg *doc.Package) (names []string) {
	check := func(of, name, comment string) {
		if !beginsWith(name, comment) {
			names = append(names, of+name)
		}
	}
	values := slices.Concat(pkg.Consts, pkg.Vars)
	functions := pkg.Funcs
	check("", "Package "+pkg.Name, pkg.Doc)
	for _, t := range pkg.Types {
		check("", t.Name, t.Doc)
		values = slices.Concat(values, t.Consts, t.Vars)
		functions = slices.Concat(functions, t.Funcs)
		for _, m := range t.Methods {
			if m.Name != "Error" || m.Doc != "" { // what it does needs no sentence
				check(t.Name+".", m.Name, m.Doc)
			}
		}
		for _, m := range interfaceMethods(t) {
			if name := m.Names[0].Name; !strings.Contains(t.Doc, name) {
				check(t.Name+".", name, m.Doc.Text())
			}
		}
	}
	for _, f := range functions {
		check("", f.Name, f.Doc)
	}
	for _, group := range values {
		names = append(names, uncommentedValues(group)...)
	}
	slices.Sort(names)
	return names
}

func beginsWith(name, comment string) bool {
	return regexp.MustCompile(`^((A|An|The) )?` + name + `\b`).MatchString(comment)
}

func interfaceMethods(t *doc.Type) (methods []*ast.Field) {
	if i, ok := t.Decl.Specs[0].(*ast.TypeSpec).Type.(*ast.InterfaceType); ok {
		methods = slices.DeleteFunc(slices.Clone(i.Methods.List), func(m *ast.Field) bool {
			return len(m.Names) == 0 || !m.Names[0].IsExported() // what is embedded has its own comments
		})
	}
	return methods
}

// uncommentedValues goes through the constants or variables of one declaration. In a group under a
// comment, a remark at the end of the line will do.
func uncommentedValues(group *doc.Value) (names []string) {
	for _, spec := range group.Decl.Specs {
		value := spec.(*ast.ValueSpec)
		for _, name := range value.Names {
			comment := value.Doc.Text()
			if !group.Decl.Lparen.IsValid() {
				comment = group.Doc
			}
			remark := group.Decl.Lparen.IsValid() && group.Doc != "" && value.Comment.Text() != ""
			if name.IsExported() && !remark && !beginsWith(name.Name, comment) {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

func hasExample(pkg *doc.Package) bool {
	examples := slices.Clone(pkg.Examples)
	for _, f := range pkg.Funcs {
		examples = append(examples, f.Examples...)
	}
	for _, t := range pkg.Types {
		examples = append(examples, t.Examples...)
		for _, f := range slices.Concat(t.Funcs, t.Methods) {
			examples = append(examples, f.Examples...)
		}
	}
	return slices.ContainsFunc(examples, func(e *doc.Example) bool { return e.Output != "" || e.EmptyOutput })
}

func namesATest(t *testing.T, dir, comment string) bool {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile(`\bTest[A-Z]\w*`).FindAllString(comment, -1) {
		for _, file := range tests {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T) {") {
				return true
			}
		}
	}
	return false
}
