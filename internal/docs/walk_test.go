package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// walkStep is a row of a walk: a function, and the file or the directory that it is in.
var walkStep = regexp.MustCompile("(?m)^\\|[^|]*\\| `([\\w.]+)` \\| ([\\w./-]+) \\|")

// Each function that a walk names is where the walk says.
func TestWalk_NamesFunctionsInTheirFiles(t *testing.T) {
	t.Parallel()
	steps := walkStep.FindAllStringSubmatch(strings.Join(pageNamed(t, "docs/walk.md").lines, "\n"), -1)
	if len(steps) < 70 {
		t.Fatalf("found %d steps only", len(steps))
	}
	for _, step := range steps {
		if !declaresFunction(t, filepath.Join(root, step[2]), step[1]) {
			t.Errorf("%s is not in %s", step[1], step[2])
		}
	}
}

// walkFigures is how a walk counts itself.
var walkFigures = regexp.MustCompile(`(\d+) steps in (\d+) files, (\d+) of which lead back`)

// What a walk says of its length is so.
func TestWalk_CountsItsSteps(t *testing.T) {
	t.Parallel()
	walks := strings.Split(strings.Join(pageNamed(t, "docs/walk.md").lines, "\n"), "\n## ")[1:]
	if len(walks) != 2 {
		t.Fatalf("found %d walks", len(walks))
	}
	for _, walk := range walks {
		title, _, _ := strings.Cut(walk, "\n")
		var last string
		steps, back, visited := 0, 0, map[string]bool{}
		for _, step := range walkStep.FindAllStringSubmatch(walk, -1) {
			steps++
			if file := step[2]; file != last {
				if visited[file] {
					back++
				}
				visited[file], last = true, file
			}
		}
		want := fmt.Sprintf("%d steps in %d files, %d of which lead back", steps, len(visited), back)
		if got := walkFigures.FindString(walk); got != want {
			t.Errorf("%s: %q instead of %q", title, got, want)
		}
	}
}

func TestWalk_MissingFunctionIsNoticed(t *testing.T) {
	t.Parallel()
	for place, there := range map[string]bool{"ezq/publish.go": true, "ezq/options.go": false, "ezq": true, "middleware": false} {
		if declaresFunction(t, filepath.Join(root, place), "PublishBatch") != there {
			t.Errorf("PublishBatch is in %s: not %v", place, there)
		}
	}
	if declaresFunction(t, filepath.Join(root, "ezq/publish.go"), "outgoing.PublishBatch") {
		t.Error("a function counts as a method")
	}
}

// declaresFunction reports whether a file, or one in or below a directory, declares the function or method, exported
// or not.
func declaresFunction(t *testing.T, place, name string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(place, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declaration := range file.Decls {
			if function, ok := declaration.(*ast.FuncDecl); ok && strings.EqualFold(nameOfFunction(function), name) {
				found = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// nameOfFunction returns the name of a function, or that of a method after its type's.
func nameOfFunction(function *ast.FuncDecl) string {
	if function.Recv == nil {
		return function.Name.Name
	}
	of := function.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	if named, ok := of.(*ast.Ident); ok {
		return named.Name + "." + function.Name.Name
	}
	return function.Name.Name
}
