package arch

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// largestCircle is how many files of a package may use each other in a circle. To follow one
// of them, a reader has to open all.
const largestCircle = 8

func TestHouse_HoldsTogether(t *testing.T) {
	houses := readHouses(t)
	t.Run("methods stand with their type", func(t *testing.T) {
		for _, h := range houses {
			if len(h.away) > 0 {
				t.Errorf("%s: %d of %d methods are outside the file of their type: %s", h.directory, len(h.away), h.methods, strings.Join(h.away, ", "))
			}
		}
	})
	t.Run("circles of files are small", func(t *testing.T) {
		for _, h := range houses {
			if circle := h.circle(); len(circle) > largestCircle {
				t.Errorf("%s: %d files use each other, and %d may: %s", h.directory, len(circle), largestCircle, strings.Join(circle, ", "))
			}
		}
	})
}

func TestHouse_SeesMethodsAndCircles(t *testing.T) {
	h := newHouse(t, "a", map[string]string{
		"one.go":   "package a\nimport \"else/where\"\ntype One struct{ two Two; where.Else }\nfunc (o *One) run() { o.two.run() }",
		"two.go":   "package a\ntype Two struct{}\nfunc (Two) run() { help() }\nfunc (o *One) away() {}",
		"three.go": "package a\nfunc help() { new(One).run() }",
		"four.go":  "package a\nfunc main() { new(One).run() }",
	})
	if got, want := fmt.Sprint(h.away), "[One.away]"; got != want {
		t.Errorf("methods away: %s instead of %s", got, want)
	}
	if got, want := fmt.Sprint(h.circle()), "[one.go three.go two.go]"; got != want {
		t.Errorf("the largest circle is %s instead of %s", got, want)
	}
}

// readHouses returns each package of the repository, without tests.
// With -v it logs the figures.
func readHouses(t *testing.T) (houses []house) {
	t.Helper()
	packages := map[string]map[string]string{}
	for _, file := range readSources(t) {
		directory := fromRoot(t, filepath.Dir(file.name))
		if file.isTest() || ast.IsGenerated(file.syntax) {
			continue
		}
		if packages[directory] == nil {
			packages[directory] = map[string]string{}
		}
		packages[directory][filepath.Base(file.name)] = file.text
	}
	for _, directory := range slices.Sorted(maps.Keys(packages)) {
		h := newHouse(t, directory, packages[directory])
		if circle := h.circle(); len(h.away) > 0 || len(circle) > 1 {
			t.Logf("%s: %d of %d methods away, largest circle %d of %d files", directory, len(h.away), h.methods, len(circle), len(packages[directory]))
		}
		houses = append(houses, h)
	}
	return houses
}

// house is how the files of one package hang together.
type house struct {
	directory string
	methods   int
	away      []string                   // methods outside the file of their type
	uses      map[string]map[string]bool // for each file, the files whose declarations it uses
}

// newHouse reads the types of a package by itself: what it imports is not needed, and is an error
// that is left aside.
func newHouse(t *testing.T, directory string, texts map[string]string) house {
	t.Helper()
	files := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		file, err := parser.ParseFile(files, name, texts[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	info := &types.Info{Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	config := types.Config{Importer: noImports{}, Error: func(error) {}}
	pkg, _ := config.Check(directory, files, parsed, info)

	h := house{directory: directory, uses: map[string]map[string]bool{}}
	fileOf := func(object types.Object) string { return files.Position(object.Pos()).Filename }
	for id, object := range info.Defs {
		function, ok := object.(*types.Func)
		if !ok {
			continue
		}
		if of := receiver(function); of != nil && !types.IsInterface(of.Type()) {
			h.methods++
			if fileOf(of) != files.Position(id.Pos()).Filename {
				h.away = append(h.away, of.Name()+"."+id.Name)
			}
		}
	}
	slices.Sort(h.away)
	for id, object := range info.Uses {
		from := files.Position(id.Pos()).Filename
		if object.Pkg() != pkg || !isShared(object, pkg) || fileOf(object) == from {
			continue
		}
		if h.uses[from] == nil {
			h.uses[from] = map[string]bool{}
		}
		h.uses[from][fileOf(object)] = true
	}
	return h
}

// isShared reports whether other files can name object: it is declared in the package's scope, or
// is a method or a field.
func isShared(object types.Object, pkg *types.Package) bool {
	if variable, ok := object.(*types.Var); ok && variable.IsField() {
		return true
	}
	if function, ok := object.(*types.Func); ok && receiver(function) != nil {
		return true
	}
	return object.Parent() == pkg.Scope()
}

// receiver returns the type that a method is of, or nil.
func receiver(function *types.Func) *types.TypeName {
	of := function.Signature().Recv()
	if of == nil {
		return nil
	}
	t := of.Type()
	if pointer, ok := t.(*types.Pointer); ok {
		t = pointer.Elem()
	}
	if named, ok := t.(*types.Named); ok {
		return named.Obj()
	}
	return nil
}

// circle returns the most files that all use each other, if only through others.
func (h house) circle() (largest []string) {
	for _, file := range slices.Sorted(maps.Keys(h.uses)) {
		circle := []string{file}
		reached := h.reach(file)
		for other := range reached {
			if other != file && h.reach(other)[file] {
				circle = append(circle, other)
			}
		}
		if len(circle) > len(largest) {
			slices.Sort(circle)
			largest = circle
		}
	}
	return largest
}

// reach returns the files that file uses, and those that these use, and so on.
func (h house) reach(file string) map[string]bool {
	reached := map[string]bool{}
	var visit func(string)
	visit = func(from string) {
		for to := range h.uses[from] {
			if !reached[to] {
				reached[to] = true
				visit(to)
			}
		}
	}
	visit(file)
	return reached
}

// noImports knows no package.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }
