package ezqtest

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
)

// plain is a backend that can do nothing that it need not.
type plain struct{ backend.Backend }

// finding is a backend that can do one thing.
type finding struct {
	backend.Backend
	backend.Finder
}

// A program that asks its client for what a new interface says must get it under a flow, too.
func TestSteered_HasEveryInterfaceOfBackends(t *testing.T) {
	t.Parallel()
	known := map[string]reflect.Type{
		"Finder": reflect.TypeFor[backend.Finder](), "Canceller": reflect.TypeFor[backend.Canceller](), "Rescheduler": reflect.TypeFor[backend.Rescheduler](),
		"Pauser": reflect.TypeFor[backend.Pauser](), "DeadLetterStore": reflect.TypeFor[backend.DeadLetterStore](), "Scheduler": reflect.TypeFor[backend.Scheduler](),
		"Inspector": reflect.TypeFor[backend.Inspector](), "Checker": reflect.TypeFor[backend.Checker](),
		"GroupPauser": reflect.TypeFor[backend.GroupPauser](),
	}
	others := []string{"Backend", "Parker", "Schedules", "ProgramLister"} // what each backend is, what it hands out, and what only a server can tell
	for _, name := range interfacesOf(t, "../../backend/*.go") {
		it := known[name]
		switch {
		case slices.Contains(others, name):
		case it == nil:
			t.Errorf("a backend may be a backend.%s: have steered pass it on, and list it here; if a backend is none, add it to the others", name)
		default:
			require.Implements(t, reflect.Zero(reflect.PointerTo(it)).Interface(), steered{})
		}
	}
	broker := reflect.TypeFor[*memory.Broker]()
	for method := range broker.Methods() {
		_, passed := reflect.TypeFor[steered]().MethodByName(method.Name)
		require.True(t, passed || method.Name == "Connect", "a program under a flow cannot call %s of its client", method.Name)
	}
}

// interfacesOf returns the exported interfaces that files declare.
func interfacesOf(t *testing.T, pattern string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	require.NoError(t, err)
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for node := range ast.Preorder(file) {
			if spec, ok := node.(*ast.TypeSpec); ok && spec.Name.IsExported() {
				if _, ok := spec.Type.(*ast.InterfaceType); ok {
					names = append(names, spec.Name.Name)
				}
			}
		}
	}
	require.Greater(t, len(names), 5)
	return names
}

func TestSteered_PromisesNothingThatTheBackendCannot(t *testing.T) {
	t.Parallel()
	broker := memory.New(nil)
	t.Cleanup(func() { _ = broker.Close() })
	_, steerable := newRecordingBackend(plain{broker}).client().(backend.Finder)
	require.False(t, steerable)
	client, steerable := newRecordingBackend(finding{plain{broker}, broker}).client().(steered)
	require.True(t, steerable)
	_, err := client.Find(t.Context(), "t", backend.Selection{ID: "a"})
	require.NoError(t, err)
	_, cancel := client.Cancel(t.Context(), "t", backend.Selection{ID: "a"})
	_, list := client.Schedules().List(t.Context())
	_, resume := client.PauserOf("g").Resume(t.Context(), "t")
	for _, err := range []error{cancel, list, resume, client.SubscribeInitialize("t")} {
		require.ErrorIs(t, err, errors.ErrUnsupported)
		require.Regexp(t, "ezqtest.(finding|groupless) is no ", err.Error())
	}
}
