package arch

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// endings knows which functions of the repository end the test that calls them, as FailNow does,
// and which ones run a function that they are given on another goroutine. It goes by names: types
// would take a minute, and the nested modules.
type endings struct {
	functions []*declared
	byName    map[string][]*declared // by package and name; that of a method has a dot
	ending    map[*declared]bool
	elsewhere map[*declared]map[int]bool // the places of parameters that run elsewhere
	visiting  map[ast.Node]bool
}

// declared is a function or a method, and what its names stand for.
type declared struct {
	source  source
	pkg     string            // its directory and its name: tests may be in another one
	imports map[string]string // packages of this repository
	syntax  *ast.FuncDecl
	locals  map[string][]*ast.FuncLit // variables that are functions
	places  map[string]int            // of parameters, and of variables that range over them
}

func newEndings(sources []source) *endings {
	e := &endings{
		byName: map[string][]*declared{}, ending: map[*declared]bool{},
		elsewhere: map[*declared]map[int]bool{}, visiting: map[ast.Node]bool{},
	}
	for _, file := range sources {
		for _, function := range file.functions() {
			if function.Body != nil {
				e.add(newDeclared(file, function))
			}
		}
	}
	for more := true; more; { // until no function turns out to be one of them
		more = false
		for _, d := range e.functions {
			more = e.learn(d) || more
		}
	}
	return e
}

func (e *endings) add(d *declared) {
	name := d.pkg + " " + d.syntax.Name.Name
	if d.syntax.Recv != nil {
		name = d.pkg + " ." + d.syntax.Name.Name
	}
	e.functions = append(e.functions, d)
	e.byName[name] = append(e.byName[name], d)
}

// learn finds out what a function does from those that it calls, and reports whether that is new.
func (e *endings) learn(d *declared) (news bool) {
	if !e.ending[d] && !collects(d.syntax.Type) && len(e.ends(d, d.syntax.Body, false)) > 0 {
		e.ending[d], news = true, true
	}
	for _, value := range e.runElsewhere(d) {
		ast.Inspect(value, func(node ast.Node) bool {
			id, ok := node.(*ast.Ident)
			if !ok {
				return true
			}
			if place, ok := d.places[id.Name]; ok && !e.elsewhere[d][place] {
				if e.elsewhere[d] == nil {
					e.elsewhere[d] = map[int]bool{}
				}
				e.elsewhere[d][place], news = true, true
			}
			return true
		})
	}
	return news
}

// breaches returns a line for each call that ends a test on a goroutine that is not the test's, or in a cleanup.
func (e *endings) breaches() []string {
	found := map[string]bool{}
	for _, d := range e.functions {
		for _, value := range e.runElsewhere(d) {
			for _, call := range e.endsOf(d, value) {
				found[call] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// runElsewhere returns what a function gives to other goroutines to run.
func (e *endings) runElsewhere(d *declared) (values []ast.Node) {
	ast.Inspect(d.syntax.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			if function, ok := node.Call.Fun.(*ast.FuncLit); ok {
				values = append(values, function.Body) // whatever it is called with
			} else {
				values = append(values, node.Call.Fun)
			}
			values = appendNodes(values, node.Call.Args)
		case *ast.CallExpr:
			values = appendNodes(values, e.argumentsElsewhere(d, node))
		}
		return true
	})
	return values
}

// argumentsElsewhere returns the arguments of a call that run on other goroutines.
func (e *endings) argumentsElsewhere(d *declared, call *ast.CallExpr) (values []ast.Expr) {
	if startsGoroutines(call) {
		return call.Args
	}
	callees := e.callees(d, call.Fun)
	for i, argument := range call.Args {
		elsewhere := func(callee *declared) bool {
			return e.elsewhere[callee][min(i, callee.syntax.Type.Params.NumFields()-1)]
		}
		if len(callees) > 0 && all(callees, elsewhere) {
			values = append(values, argument)
		}
	}
	return values
}

// starters are functions of other modules, and those of ezq that keep a handler, that run what they
// are given on other goroutines; and Cleanup, which runs it when the test is over.
var starters = []string{
	"ezq.Handle", "ezq.HandleBatch", "router.Handle", "router.Use", "router.AddHandler", "router.AddConsumerHandler",
	"router.AddNoPublisherHandler", "router.AddMiddleware", "mux.HandleFunc", "http.HandlerFunc", "group.Go",
	"time.AfterFunc", "b.RunParallel", "require.Eventually", "require.Eventuallyf", "require.Never", "require.Neverf",
	"assert.Eventually", "assert.Eventuallyf", "assert.Never", "assert.Neverf", "t.Cleanup",
}

// exactly lists the packages of which the name counts: others have functions that are called alike.
var exactly = []string{"http", "require", "assert"}

// startsGoroutines reports whether a call is one of a starter, of whatever value.
func startsGoroutines(call *ast.CallExpr) bool {
	of, name := calledName(call.Fun)
	return of != "" && slices.ContainsFunc(starters, func(starter string) bool {
		pkg, function, _ := strings.Cut(starter, ".")
		return function == name && (pkg == of || !slices.Contains(exactly, pkg))
	})
}

// endsOf returns the calls with which a value ends a test when it is run.
func (e *endings) endsOf(d *declared, value ast.Node) (calls []string) {
	switch value := value.(type) {
	case *ast.BlockStmt:
		return e.ends(d, value, true)
	case *ast.FuncLit:
		if !isTest(value.Type) {
			return e.ends(d, value.Body, true)
		}
	case *ast.CallExpr: // it runs now, and what it returns may run elsewhere
		for _, callee := range e.callees(d, value.Fun) {
			for _, result := range results(callee.syntax) {
				calls = append(calls, e.endsOf(callee, result)...)
			}
		}
	case *ast.Ident, *ast.SelectorExpr:
		function, _ := value.(ast.Expr)
		if local := d.local(function); local != nil {
			return e.ends(d, local.Body, true)
		}
		if e.endsTest(d, function) {
			return []string{d.describe(function)}
		}
	}
	return calls
}

// ends returns the calls in a body that end a test, as they are described to a reader. Functions
// within it count if all is true, or if they are called where they stand.
func (e *endings) ends(d *declared, body ast.Node, all bool) (calls []string) {
	if e.visiting[body] { // it calls itself
		return nil
	}
	e.visiting[body] = true
	defer delete(e.visiting, body)
	called := map[ast.Node]bool{}
	ast.Inspect(body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.GoStmt:
			return all
		case *ast.FuncLit:
			return called[node] || all && !isTest(node.Type)
		case *ast.CallExpr:
			called[node.Fun] = true
			if isEnding(node) || e.endsTest(d, node.Fun) {
				calls = append(calls, d.describe(node.Fun))
			}
		}
		return true
	})
	return calls
}

// endsTest reports whether a call of a function of this repository ends a test.
func (e *endings) endsTest(d *declared, function ast.Expr) bool {
	if local := d.local(function); local != nil {
		return !isTest(local.Type) && len(e.ends(d, local.Body, false)) > 0
	}
	callees := e.callees(d, function)
	return len(callees) > 0 && all(callees, func(callee *declared) bool { return e.ending[callee] })
}

// enders are the methods of a test that end it.
var enders = []string{"Fatal", "Fatalf", "FailNow", "Skip", "Skipf", "SkipNow"}

// isEnding reports whether a call is one of require, or of a method that ends a test.
func isEnding(call *ast.CallExpr) bool {
	of, name := calledName(call.Fun)
	return of == "require" && name != "New" || of != "" && of != "log" && slices.Contains(enders, name)
}

// callees returns the functions of this repository that an expression may name.
func (e *endings) callees(d *declared, function ast.Expr) []*declared {
	of, name := calledName(function)
	if pkg, ok := d.imports[of]; ok {
		return e.byName[pkg+" "+name]
	}
	if of != "" {
		return e.byName[d.pkg+" ."+name]
	}
	return e.byName[d.pkg+" "+name]
}

func newDeclared(file source, function *ast.FuncDecl) *declared {
	d := &declared{
		source: file, pkg: path.Dir(strings.TrimPrefix(file.name, root+"/")) + " " + file.syntax.Name.Name, syntax: function,
		imports: map[string]string{}, locals: map[string][]*ast.FuncLit{}, places: map[string]int{},
	}
	for _, imported := range file.syntax.Imports {
		name, _ := strconv.Unquote(imported.Path.Value) // it has been parsed
		if directory, ok := strings.CutPrefix(name, module); ok {
			d.imports[path.Base(directory)] = directory + " " + path.Base(directory)
		}
	}
	for _, field := range function.Type.Params.List {
		for _, name := range field.Names {
			d.places[name.Name] = len(d.places)
		}
	}
	ast.Inspect(function.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.AssignStmt:
			d.note(node.Lhs, node.Rhs)
		case *ast.ValueSpec:
			for i, name := range node.Names {
				if i < len(node.Values) {
					d.note([]ast.Expr{name}, node.Values[i:i+1])
				}
			}
		case *ast.RangeStmt:
			if over, ok := node.X.(*ast.Ident); ok && node.Value != nil {
				if place, ok := d.places[over.Name]; ok {
					_, name := calledName(node.Value)
					d.places[name] = place
				}
			}
		}
		return true
	})
	return d
}

// note keeps the functions that are assigned to variables.
func (d *declared) note(variables, values []ast.Expr) {
	for i, value := range values {
		if function, ok := value.(*ast.FuncLit); ok {
			_, name := calledName(variables[i])
			d.locals[name] = append(d.locals[name], function)
		}
	}
}

// local returns the function that a variable is where it is used, or nil.
func (d *declared) local(variable ast.Expr) (function *ast.FuncLit) {
	id, ok := variable.(*ast.Ident)
	if !ok {
		return nil
	}
	for _, candidate := range d.locals[id.Name] {
		if candidate.Pos() < id.Pos() {
			function = candidate
		}
	}
	return function
}

func (d *declared) describe(function ast.Expr) string {
	of, name := calledName(function)
	return fmt.Sprintf("%s:%d: %s ends a goroutine that is not the test's, or a cleanup: report with Errorf, or call it before",
		d.source.name, d.source.line(function.Pos()), strings.TrimPrefix(of+"."+name, "."))
}

// results returns what a function returns.
func results(function *ast.FuncDecl) (values []ast.Expr) {
	ast.Inspect(function.Body, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncLit:
			return false
		case *ast.ReturnStmt:
			for _, value := range node.Results {
				if _, ok := value.(*ast.FuncLit); ok {
					values = append(values, value)
				}
			}
		}
		return true
	})
	return values
}

// calledName returns the name of a function, and what stands before its dot.
func calledName(function ast.Expr) (of, name string) {
	switch f := function.(type) {
	case *ast.Ident:
		return "", f.Name
	case *ast.IndexExpr: // a generic function with its type
		return calledName(f.X)
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			return x.Name, f.Sel.Name
		}
		return "(expression)", f.Sel.Name
	}
	return "", ""
}

// isTest reports whether a function has a test of its own, and so a goroutine, as a subtest.
func isTest(function *ast.FuncType) bool {
	return slices.ContainsFunc([]string{"T", "B", "TB"}, func(name string) bool { return hasParameter(function, "testing", name) }) || collects(function)
}

// collects reports whether a function is a condition of testify that may end at any time.
func collects(function *ast.FuncType) bool { return hasParameter(function, "assert", "CollectT") }

func hasParameter(function *ast.FuncType, pkg, name string) bool {
	return slices.ContainsFunc(function.Params.List, func(field *ast.Field) bool {
		parameter := field.Type
		if pointer, ok := parameter.(*ast.StarExpr); ok {
			parameter = pointer.X
		}
		of, typ := calledName(parameter)
		return of == pkg && typ == name
	})
}

func appendNodes(nodes []ast.Node, expressions []ast.Expr) []ast.Node {
	for _, expression := range expressions {
		nodes = append(nodes, expression)
	}
	return nodes
}

func all[T any](values []T, holds func(T) bool) bool {
	return !slices.ContainsFunc(values, func(v T) bool { return !holds(v) })
}
