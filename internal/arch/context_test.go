package arch

import (
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The protocol of values in contexts is one table in the documentation of package backend. It has
// each key, and each exported function that writes or reads a value.
const protocolTable = "backend/doc.go"

func TestContexts_AreInTheTableOfTheProtocol(t *testing.T) {
	var table string
	carried := newContextValues()
	for _, file := range readSources(t) {
		name := fromRoot(t, file.name)
		if name == protocolTable {
			table = preformatted(file.text)
		}
		if !file.isTest() && !strings.HasPrefix(name, "examples/") {
			carried.add(file)
		}
	}
	for _, mistake := range carried.compare(table) {
		t.Errorf("%s: %s", protocolTable, mistake)
	}
}

func TestContexts_NoticeWhatTheTableLacks(t *testing.T) {
	carried := newContextValues()
	carried.add(parse(t, "a.go", `package a
		type T struct{}
		func WithIt(ctx context.Context) context.Context { return context.WithValue(ctx, itKey{}, 1) }
		func It(ctx context.Context) any { return ctx.Value(itKey{}) }
		func ItFromContext(ctx context.Context) any { return It(ctx) }
		func (T) WithTx(ctx context.Context) context.Context { return ctx }
		func WithConfig(config string) T { return T{} }
		func private(ctx context.Context) any { return ctx.Value(itKey{}) }`))
	for table, want := range map[string][]string{
		"a.itKey a.WithIt a.It a.ItFromContext a.T":            nil,
		"a.WithIt a.It a.ItFromContext":                        {"a.itKey is missing"},
		"a.itKey a.ItFromContext":                              {"a.It is missing", "a.WithIt is missing"},
		"a.itKey a.WithIt a.It":                                {"a.ItFromContext is missing"},
		"a.itKey a.WithIt a.It a.ItFromContext a.Old a.oldKey": {"a.Old does not exist", "a.oldKey does not exist"},
	} {
		if got := carried.compare(table); !slices.Equal(got, want) {
			t.Errorf("%q: %q instead of %q", table, got, want)
		}
	}
}

// contextValues is the keys of values in contexts, and the exported functions that write and read
// them, each with its package.
type contextValues struct {
	carriers map[string]bool // what the table has to have
	exported map[string]bool // what it may have besides
}

func newContextValues() *contextValues {
	return &contextValues{carriers: map[string]bool{}, exported: map[string]bool{}}
}

// add adds what a file declares and uses.
func (c *contextValues) add(file source) {
	within := file.syntax.Name.Name + "."
	for _, declaration := range file.syntax.Decls {
		switch declaration := declaration.(type) {
		case *ast.GenDecl:
			for _, spec := range declaration.Specs {
				if spec, ok := spec.(*ast.TypeSpec); ok {
					c.exported[within+spec.Name.Name] = true
				}
			}
		case *ast.FuncDecl:
			keys := contextKeys(declaration)
			for _, key := range keys {
				c.carriers[within+key] = true
			}
			if !declaration.Name.IsExported() {
				continue
			}
			c.exported[within+declaration.Name.Name] = true
			if declaration.Recv == nil && (len(keys) > 0 || isContextFunc(declaration)) {
				c.carriers[within+declaration.Name.Name] = true
			}
		}
	}
}

// contextKeys returns the types of the keys that a function gives to WithValue or to Value.
func contextKeys(function *ast.FuncDecl) (keys []string) {
	ast.Inspect(function, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		called, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || called.Sel.Name != "WithValue" && called.Sel.Name != "Value" || len(call.Args) == 0 {
			return true
		}
		for _, argument := range call.Args {
			key, ok := argument.(*ast.CompositeLit)
			if !ok || len(key.Elts) > 0 {
				continue
			}
			if of, ok := key.Type.(*ast.Ident); ok {
				keys = append(keys, of.Name)
			}
		}
		return true
	})
	return keys
}

// isContextFunc reports whether a function reads a context, or makes one, by its name.
func isContextFunc(function *ast.FuncDecl) bool {
	name, parameters := function.Name.Name, function.Type.Params.List
	if len(parameters) == 0 || !isContext(parameters[0].Type) {
		return false
	}
	results := function.Type.Results
	return strings.HasSuffix(name, "FromContext") ||
		strings.HasPrefix(name, "With") && results != nil && isContext(results.List[0].Type)
}

func isContext(expression ast.Expr) bool {
	selector, ok := expression.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == "Context"
}

var (
	qualified = regexp.MustCompile(`\b[a-z]+\.\w+`)
	contextOf = regexp.MustCompile(`\.\w+Key$`)
)

// compare returns what table lacks, and what it has that does not exist.
func (c *contextValues) compare(table string) (mistakes []string) {
	named := map[string]bool{}
	for _, name := range qualified.FindAllString(table, -1) {
		named[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(c.carriers)) {
		if !named[name] {
			mistakes = append(mistakes, name+" is missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if !c.carriers[name] && (!c.exported[name] || contextOf.MatchString(name)) {
			mistakes = append(mistakes, name+" does not exist")
		}
	}
	return mistakes
}

// preformatted returns the indented lines of a file's comments.
func preformatted(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "//\t") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}
