package arch

import (
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// logPage lists the keys of log records, in a table whose rows begin with one.
const logPage = "docs/observability.md"

func TestLogKeys_MatchDocumentation(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, logPage))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	_, table, _ := strings.Cut(string(page), "\n## Log records\n")
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` ").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = true
	}
	var files []source
	loggers := loggerFuncs{}
	for _, file := range readSources(t) {
		if !file.isTest() && isLibrary(file.name) {
			files = append(files, file)
			loggers.add(file.syntax)
		}
	}
	used := map[string]string{} // with a file that does
	for _, file := range files {
		for _, key := range loggers.keys(file.syntax) {
			used[key] = file.name
		}
	}
	for _, key := range slices.Sorted(maps.Keys(used)) {
		if !documented[key] {
			t.Errorf("%s logs the key %q, which %s does not have: use one that it has, or add it", used[key], key, logPage)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(documented)) {
		if used[key] == "" {
			t.Errorf("%s has the key %q, which nothing logs", logPage, key)
		}
	}
}

// isLibrary reports whether a file belongs to what is imported, and not to examples or
// tools.
func isLibrary(name string) bool {
	path, err := filepath.Rel(root, name)
	top, rest, _ := strings.Cut(filepath.ToSlash(path), "/")
	switch top {
	case "backend", "console", "ezq", "middleware", "otel":
		return err == nil
	case "internal":
		return strings.HasPrefix(rest, "sparse/")
	}
	return false
}

// loggerFuncs is the names of the functions and methods that return a logger.
type loggerFuncs map[string]bool

func (f loggerFuncs) add(file *ast.File) {
	for _, declaration := range file.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || function.Type.Results == nil || len(function.Type.Results.List) != 1 {
			continue
		}
		pointer, ok := function.Type.Results.List[0].Type.(*ast.StarExpr)
		if !ok {
			continue
		}
		if result, ok := pointer.X.(*ast.SelectorExpr); ok && isIdent(result.X, "slog") && result.Sel.Name == "Logger" {
			f[function.Name.Name] = true
		}
	}
}

// keys returns the keys that a file gives to loggers: at each second place of the
// arguments that follow a message, and of the lists that are passed on as such.
func (f loggerFuncs) keys(file *ast.File) (keys []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.CallExpr:
			keys = append(keys, f.keysOfCall(node)...)
		case *ast.CompositeLit:
			if array, ok := node.Type.(*ast.ArrayType); ok && isIdent(array.Elt, "any") && len(node.Elts)%2 == 0 {
				keys = append(keys, eachSecond(node.Elts)...)
			}
		}
		return true
	})
	return keys
}

func (f loggerFuncs) keysOfCall(call *ast.CallExpr) []string {
	if isIdent(call.Fun, "append") && len(call.Args) > 1 && isIdent(call.Args[0], "attrs") {
		return eachSecond(call.Args[1:])
	}
	method, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !f.isLogger(method.X) {
		return nil
	}
	before := map[string]int{"With": 0, "Debug": 1, "Info": 1, "Warn": 1, "Error": 1, "Log": 3}
	skip, ok := before[strings.TrimSuffix(method.Sel.Name, "Context")]
	if strings.HasSuffix(method.Sel.Name, "Context") {
		skip++
	}
	if !ok || len(call.Args) < skip {
		return nil
	}
	return eachSecond(call.Args[skip:])
}

func (f loggerFuncs) isLogger(expression ast.Expr) bool {
	switch e := expression.(type) {
	case *ast.Ident:
		return f[e.Name] || e.Name == "log" || e.Name == "slog" || strings.HasSuffix(strings.ToLower(e.Name), "logger")
	case *ast.SelectorExpr:
		return strings.HasSuffix(strings.ToLower(e.Sel.Name), "logger")
	case *ast.CallExpr:
		if method, ok := e.Fun.(*ast.SelectorExpr); ok {
			return f[method.Sel.Name] || method.Sel.Name == "With" && f.isLogger(method.X) || f.isLogger(method)
		}
		return f.isLogger(e.Fun)
	}
	return false
}

func isIdent(expression ast.Expr, name string) bool {
	ident, ok := expression.(*ast.Ident)
	return ok && ident.Name == name
}

func eachSecond(arguments []ast.Expr) (keys []string) {
	for i := 0; i < len(arguments); i += 2 {
		literal, ok := arguments[i].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING {
			return keys
		}
		key, err := strconv.Unquote(literal.Value)
		if err != nil {
			return keys
		}
		keys = append(keys, key)
	}
	return keys
}

// A JSON handler writes a time.Duration as a number of nanoseconds, without saying so.
func TestLogRecord_DurationHasUnit(t *testing.T) {
	lengths := map[string]bool{"retry_in": true, "waited": true, "lasted": true, "lease": true, "limit": true}
	found := 0
	for _, file := range readSources(t) {
		if file.isTest() || !isLibrary(file.name) {
			continue
		}
		for _, bare := range lengthsWithoutUnit(file.syntax, lengths, &found) {
			t.Errorf("%s logs %q without a unit: give its String()", file.name, bare)
		}
	}
	if found < len(lengths) {
		t.Errorf("only %d lengths of time are logged: does the test see them?", found)
	}
}

// lengthsWithoutUnit returns the keys that are followed by something else than a call of
// String.
func lengthsWithoutUnit(file *ast.File, lengths map[string]bool, found *int) (bare []string) {
	ast.Inspect(file, func(node ast.Node) bool {
		var list []ast.Expr
		switch node := node.(type) {
		case *ast.CallExpr:
			list = node.Args
		case *ast.CompositeLit:
			list = node.Elts
		}
		for i := range len(list) - 1 {
			literal, ok := list[i].(*ast.BasicLit)
			if !ok || !lengths[strings.Trim(literal.Value, `"`)] {
				continue
			}
			*found++
			if !isCallOf(list[i+1], "String") {
				bare = append(bare, literal.Value)
			}
		}
		return true
	})
	return bare
}

func isCallOf(expression ast.Expr, method string) bool {
	call, ok := expression.(*ast.CallExpr)
	if !ok {
		return false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == method
}

func TestLogKeys_AreFoundInSource(t *testing.T) {
	file := parse(t, "a.go", `package a
func f() {
	s.config.Logger.ErrorContext(ctx, "text", "a", 1, "b", "value")
	log := logger.With("c", 1)
	log.Warn("text")
	attrs := []any{"d", 1, "e", err}
	attrs = append(attrs, "f", 1)
	logger.Info("text", attrs...)
	p.logger(ctx).Debug("text", "g", 1)
	s.about(1).Warn("text", "h", 1)
	logger.With("i", 1).Warn("text", "j", 1)
	other.Error("text", "x", 1)
	names := []string{"k", "l"}
}
func (s *server) about(int) *slog.Logger { return nil }`)
	loggers := loggerFuncs{}
	loggers.add(file.syntax)
	if got := strings.Join(loggers.keys(file.syntax), ""); !isPermutation(got, "abcdefghij") {
		t.Errorf("they are %q", got)
	}
}

func isPermutation(got, want string) bool {
	letters := []rune(got)
	slices.Sort(letters)
	return string(letters) == want
}
