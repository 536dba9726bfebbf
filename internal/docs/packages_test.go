package docs

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/ezq-go/ezq"

// packageIndex is every package that documentation may speak of: those of the repository,
// and what they and the examples depend on.
type packageIndex struct {
	exports map[string]string // the compiled package, by import path
	byName  map[string]string // the import path that a name stands for
	names   map[string]string // the name of each package
	types   types.Importer    // not for concurrent use
	mu      sync.Mutex
}

// The modules of the pages: the nested ones bring OpenTelemetry, Watermill's cqrs,
// watermill-sql and River.
var modules = []string{".", "otel", "examples/watermill", "bench"}

var loadOnce = sync.OnceValues(func() (*packageIndex, error) {
	k := &packageIndex{exports: map[string]string{}, byName: map[string]string{}, names: map[string]string{}}
	lists := make([][]listed, len(modules))
	failures := make([]error, len(modules))
	var listing sync.WaitGroup
	for i, dir := range modules {
		listing.Go(func() { lists[i], failures[i] = list(dir) })
	}
	listing.Wait()
	for _, packages := range lists {
		for _, p := range packages {
			k.add(p)
		}
	}
	k.types = importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		if k.exports[path] == "" {
			return nil, fmt.Errorf("%s is not a package that the repository uses", path)
		}
		return os.Open(k.exports[path])
	})
	return k, errors.Join(failures...)
})

func loadPackages(t *testing.T) *packageIndex {
	t.Helper()
	k, err := loadOnce()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

type listed struct{ ImportPath, Name, Export string }

func list(dir string) (packages []listed, err error) {
	command := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Name,Export", "./...")
	if dir == "." {
		command.Args = append(command.Args, "github.com/ThreeDotsLabs/watermill/pubsub/tests") // of which tests are made
	}
	command.Dir = filepath.Join(root, dir)
	command.Env = append(os.Environ(), "GOWORK=off")
	var complaints strings.Builder
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, &complaints)
	}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// add makes a package known. Where several have one name, it stands for the one that a reader
// would think of: ezq's own, else the standard library's, else the shortest path.
func (k *packageIndex) add(p listed) {
	if p.Export == "" || p.Name == "main" || k.exports[p.ImportPath] != "" {
		return
	}
	k.exports[p.ImportPath], k.names[p.ImportPath] = p.Export, p.Name
	if other := k.byName[p.Name]; !strings.Contains(p.ImportPath, "internal/") && (other == "" || rank(p.ImportPath) < rank(other)) {
		k.byName[p.Name] = p.ImportPath
	}
}

func rank(path string) int {
	host, _, _ := strings.Cut(path, "/")
	switch {
	case strings.HasPrefix(path, module):
		return len(path)
	case !strings.Contains(host, "."):
		return 1000 + len(path)
	default:
		return 2000 + len(path)
	}
}
