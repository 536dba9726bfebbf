package docs

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"testing"
)

// Snippets use what their page has introduced in words: ctx, client, router and so on. This file
// declares it, with the types that it has throughout the documentation.
const namesFile = "testdata/names.go"

func TestSnippets_CompileAsWritten(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	found := 0
	for _, page := range readPages(t) {
		for _, block := range page.goBlocks() {
			found++
			if err := packages.compile(block); err != nil {
				t.Error(err)
			}
		}
	}
	if found == 0 {
		t.Error("there is no Go code")
	}
}

func TestSnippets_NoticeCompileError(t *testing.T) {
	t.Parallel()
	packages := loadPackages(t)
	for what, text := range map[string]string{
		"an unknown function":       "ezq.Handel(router, welcome)",
		"a wrong argument":          "err = ezq.Publish(ctx, 7, UserCreated{})",
		"a field that is not there": "config := ezq.Config{Workers: 3}",
		"what is no Go":             "ezq.Handle(router, …)",
		"an unknown name":           "unknown.Run(ctx)",
		"a wrong declaration":       "type Bad struct{ At time.Tme }",
		"a wrong program":           "package main\n\nfunc main() { undefined() }\n",
		"an unused import":          "package main\n\nimport \"os\"\n\nfunc main() {}\n",
	} {
		if packages.compile(block{page: "page.md", line: 1, text: text}) == nil {
			t.Errorf("%s is not noticed: %s", what, text)
		}
	}
}

// compile type-checks a snippet: a program, or a fragment, whose imports may be left out.
func (k *packageIndex) compile(b block) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	imports, err := k.importsFor(b)
	if err != nil {
		return err
	}
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, b.page, b.source(imports), parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	parsed := []*ast.File{file}
	if !b.whole() {
		names, err := parser.ParseFile(files, namesFile, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		removeDeclarations(names, declared(file))
		parsed = append(parsed, names)
	}
	var problems []error
	config := types.Config{Importer: k.types, Error: func(err error) {
		// What is soft is unused: that is fine in a fragment.
		if problem := (types.Error{}); !errors.As(err, &problem) || !problem.Soft || b.whole() {
			problems = append(problems, err)
		}
	}}
	_, _ = config.Check("snippet", files, parsed, nil) // its errors go to config.Error
	return errors.Join(problems...)
}
