package pgmq_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// go test runs examples only if they have an Output, and then always. These need PostgreSQL,
// so a test runs them; what they print is the comment at their end.
func TestExamples_PrintPromisedOutput(t *testing.T) {
	examples := map[string]func(){
		"Example": Example, "ExampleClient_WithTx": ExampleClient_WithTx, "ExampleClient_TxMiddleware": ExampleClient_TxMiddleware,
		"ExampleClient_Redrive": ExampleClient_Redrive, "ExampleClient_Check": ExampleClient_Check, "ExampleClient_Find": ExampleClient_Find, "ExampleClient_Cancel": ExampleClient_Cancel, "ExampleClient_Reschedule": ExampleClient_Reschedule,
		"ExampleClient_Pause": ExampleClient_Pause, "ExampleError": ExampleError, "ExampleNewSubscriber": ExampleNewSubscriber,
	}
	promised := promisedOutputs(t)
	require.Len(t, promised, len(examples), "an example is not run")
	for name, example := range examples {
		t.Run(name, func(t *testing.T) {
			t.Setenv("EZQ_DATABASE_URL", pgtest.Database(t))
			require.Equal(t, promised[name], printed(t, example))
		})
	}
}

// promisedOutputs returns the last comment of each example that go test does not run.
func promisedOutputs(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "example_test.go", nil, parser.ParseComments)
	require.NoError(t, err)
	promised := map[string]string{}
	for _, d := range file.Decls {
		function, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(function.Name.Name, "Example") {
			continue
		}
		for _, comment := range file.Comments {
			if function.Body.Pos() < comment.Pos() && comment.End() < function.Body.End() {
				promised[function.Name.Name] = comment.Text()
			}
		}
	}
	return promised
}

func printed(t *testing.T, example func()) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = writer
	defer func() { os.Stdout = stdout }()
	example() // what it prints fits into the pipe
	require.NoError(t, writer.Close())
	text, err := io.ReadAll(reader)
	require.NoError(t, err)
	return string(text)
}
