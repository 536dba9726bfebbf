package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// graph says for each package what it imports outside its tests.
type graph map[string][]string

// listPackages asks the go command for every package of the module and all that they depend on.
func listPackages(t *testing.T) graph {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", "./...")
	command.Dir = root
	var stderr strings.Builder
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}

	imports := make(graph)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return imports
		} else if err != nil {
			t.Fatal("go list:", err)
		}
		imports[pkg.ImportPath] = pkg.Imports
	}
}

// check returns a line for each way in which the rule is broken.
func (l layer) check(imports graph) (broken []string) {
	for _, pkg := range slices.Sorted(maps.Keys(imports)) {
		if matches(l.of, pkg) && !matches(l.except, pkg) {
			broken = append(broken, l.checkOne(imports, pkg)...)
		}
		for _, imported := range imports[pkg] {
			if l.justTests && matches(l.of, imported) && matches(module+"...", pkg) && !matches(l.of, pkg) {
				broken = append(broken, pkg+" → "+imported)
			}
		}
	}
	return broken
}

func (l layer) checkOne(imports graph, pkg string) (broken []string) {
	for _, imported := range imports[pkg] {
		if l.imports != "" && !matches(l.imports, imported) {
			broken = append(broken, pkg+" → "+imported)
		}
	}
	for _, path := range imports.paths(pkg) {
		if matches(l.never, path[len(path)-1]) {
			broken = append(broken, strings.Join(path, " → "))
		}
	}
	return broken
}

// paths returns, for each package that pkg depends on, a shortest way of imports that leads there.
func (g graph) paths(pkg string) (paths [][]string) {
	seen := map[string]bool{pkg: true}
	for queue := [][]string{{pkg}}; len(queue) > 0; queue = queue[1:] {
		path := queue[0]
		for _, imported := range g[path[len(path)-1]] {
			if !seen[imported] {
				seen[imported] = true
				longer := append(slices.Clone(path), imported)
				queue = append(queue, longer)
				paths = append(paths, longer)
			}
		}
	}
	return paths
}

func matches(patterns, path string) bool {
	for pattern := range strings.FieldsSeq(patterns) {
		parent, below := strings.CutSuffix(pattern, "/...")
		first, _, _ := strings.Cut(path, "/")
		switch {
		case pattern == standard && !strings.Contains(first, "."),
			path == parent,
			below && strings.HasPrefix(path, parent+"/"):
			return true
		}
	}
	return false
}

// violations returns imports that the rule must notice: one graph for each thing that it forbids.
func (l layer) violations() (breaches []graph) {
	example := func(pattern string) string { return strings.TrimSuffix(pattern, "/...") }
	for of := range strings.FieldsSeq(l.of) {
		for never := range strings.FieldsSeq(l.never) {
			indirect := example(never)
			if indirect != never {
				indirect += "/v2"
			}
			breaches = append(breaches,
				graph{example(of): {example(never)}},
				graph{example(of): {module + "internal/between"}, module + "internal/between": {indirect}})
		}
		if l.imports != "" {
			breaches = append(breaches, graph{example(of): {"github.com/google/uuid"}}, graph{example(of): {module + "ezq"}})
		}
		if l.justTests {
			breaches = append(breaches, graph{module + "ezq": {example(of)}})
		}
	}
	return breaches
}
