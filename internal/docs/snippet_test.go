package docs

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
)

func (b block) whole() bool { return strings.HasPrefix(b.text, "package ") }

var declaration = regexp.MustCompile(`^(func (\(|\w+[\[(])|type |const |import )`)

// source makes a file of the snippet, in which every line knows where it came from. A fragment
// is declarations and statements in any order; its statements become the body of a function.
func (b block) source(imports []string) string {
	if b.whole() {
		return fmt.Sprintf("//line %s:%d\n%s", b.page, b.line, b.text)
	}
	var top, declarations, statements strings.Builder
	for _, spec := range imports {
		fmt.Fprintf(&top, "import %s\n", spec)
	}
	var out *strings.Builder
	for i, line := range strings.Split(b.text, "\n") {
		switch begins := declaration.MatchString(line); {
		case strings.HasPrefix(line, "import "):
			out = &top
		case begins:
			out = &declarations
		case out == nil || endsDeclaration(b.text, i):
			out = &statements
		}
		fmt.Fprintf(out, "//line %s:%d\n%s\n", b.page, b.line+i, line)
	}
	return fmt.Sprintf("package snippet\n%s%sfunc _() error {\n%spanic(0)\n}\n", &top, &declarations, &statements)
}

// endsDeclaration reports whether the line before line i ended a declaration: it was at the margin, and
// opened nothing.
func endsDeclaration(text string, i int) bool {
	before := strings.Split(text, "\n")[i-1]
	margin := before == strings.TrimLeft(before, "\t ")
	return margin && before != "" && !strings.HasSuffix(before, "{") && !strings.HasSuffix(before, "(")
}

// declared returns the names that a file declares at its top.
func declared(file *ast.File) map[string]bool {
	names := map[string]bool{}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			names[d.Name.Name] = d.Recv == nil
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				for _, name := range specNames(spec) {
					names[name] = true
				}
			}
		}
	}
	return names
}

func specNames(spec ast.Spec) (names []string) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		names = append(names, spec.Name.Name)
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// removeDeclarations removes the declarations of names from a file: the snippet has its own.
func removeDeclarations(file *ast.File, names map[string]bool) {
	file.Decls = slices.DeleteFunc(file.Decls, func(d ast.Decl) bool {
		if function, ok := d.(*ast.FuncDecl); ok {
			return names[function.Name.Name]
		}
		general := d.(*ast.GenDecl)
		general.Specs = slices.DeleteFunc(general.Specs, func(spec ast.Spec) bool {
			return slices.ContainsFunc(specNames(spec), func(name string) bool { return names[name] })
		})
		return false
	})
}

// qualifiers returns the names before a dot: those of packages are among them.
func qualifiers(file *ast.File) []string {
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok {
				names[name.Name] = true
			}
		}
		return true
	})
	return slices.Sorted(maps.Keys(names))
}

// importsFor returns what a fragment needs imported, and does not import itself.
func (k *packageIndex) importsFor(b block) (specs []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), b.page, b.source(nil), parser.SkipObjectResolution)
	if err != nil || b.whole() {
		return nil, err
	}
	own := declared(file)
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		own[k.names[path]] = true
		if spec.Name != nil {
			own[spec.Name.Name] = true
		}
	}
	for _, name := range qualifiers(file) {
		if path := k.byName[name]; path != "" && !own[name] {
			specs = append(specs, fmt.Sprintf("%s %q", name, path))
		}
	}
	return specs, nil
}
