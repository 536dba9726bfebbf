package arch

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module    = "github.com/ezq-go/ezq/"
	watermill = "github.com/ThreeDotsLabs/watermill/..."
	pgx       = "github.com/jackc/..."
	testify   = "github.com/stretchr/testify/..."
	standard  = "std"

	backends    = module + "backend/memory/... " + module + "backend/pgmq/..."
	router      = module + "ezq/..."
	middleware  = module + "middleware/..."
	conformance = module + "conformance/..."
)

// A layer is a rule about some packages. Patterns are import paths, separated by spaces, in which
// /... stands for the package itself and all below it, and std for the standard library.
type layer struct {
	description string
	of          string // the packages that the rule is about
	except      string // and those of them that it is not about
	never       string // what they must not depend on, not even indirectly
	imports     string // if set: all that they may import themselves
	justTests   bool   // only tests may import them
}

var layers = []layer{
	{
		description: "backend is the contract: it needs nothing but Watermill",
		of:          module + "backend",
		imports:     standard + " " + watermill,
	},
	{
		description: "the memory backend brings nothing along, and does not know who uses it",
		of:          module + "backend/memory/...",
		never:       strings.Join([]string{router, middleware, conformance, module + "backend/pgmq/...", pgx, testify}, " "),
	},
	{
		description: "the PGMQ backend is for any Watermill program: it does not know ezq",
		of:          module + "backend/pgmq/...",
		never:       strings.Join([]string{router, middleware, conformance, module + "backend/memory/...", testify}, " "),
	},
	{
		description: "ezq works on any backend, so it knows none",
		of:          module + "ezq",
		never:       strings.Join([]string{backends, middleware, conformance, pgx, testify}, " "),
	},
	{
		description: "ezqtest runs in virtual time: memory is the only backend that can, and the only one it knows",
		of:          module + "ezq/ezqtest",
		never:       strings.Join([]string{module + "backend/pgmq/...", middleware, conformance, pgx, testify}, " "),
	},
	{
		description: "middleware works on any backend, so it knows none",
		of:          middleware,
		never:       strings.Join([]string{backends, conformance, pgx, testify}, " "),
	},
	{
		description: "conformance judges backends by the contract alone, so it knows none",
		of:          conformance,
		never:       strings.Join([]string{backends, pgx}, " "),
	},
	{
		description: "a program that uses ezq does not get testify with it",
		of:          module + "...",
		except:      conformance,
		never:       testify,
	},
	{
		description: "test helpers stay in tests",
		of:          module + "internal/pgtest/... " + module + "backend/internal/model/... " + module + "internal/ledger/... " + module + "internal/faultproxy/... " + module + "internal/cluster/... " + module + "examples/internal/exampletest/... " + conformance,
		justTests:   true,
	},
}

// pgmqFloors is the packages below backend/pgmq, the lowest first. One of them may use those of lower
// floors, and none of its own.
var pgmqFloors = [][]string{
	{"bounded", "queuename", "sqlfile", "transact"},
	{"fault"},
	{"codec", "dial", "hazard"},
	{"catalog", "insert", "wakeup"},
	{"condition", "pauses", "statement"},
	{"lease", "search"},
}

// layerRules returns the rules of all layers, and those that the floors below backend/pgmq stand for.
func layerRules() []layer {
	return slices.Concat(layers, floorRules(module+"backend/pgmq", pgmqFloors))
}

// floorRules returns the rules that floors of packages below a face stand for.
func floorRules(face string, floors [][]string) (rules []layer) {
	below := face + "/internal/"
	for i, floor := range floors {
		for _, name := range floor {
			never := []string{face}
			for _, others := range floors[i:] {
				for _, other := range others {
					if other != name {
						never = append(never, below+other)
					}
				}
			}
			rules = append(rules, layer{
				description: strings.TrimPrefix(below, module) + name + " knows neither the face nor what is on its floor or above",
				of:          below + name,
				never:       strings.Join(never, " "),
			})
		}
	}
	return rules
}

func TestLayers_AreKeptByEveryPackage(t *testing.T) {
	imports := listPackages(t)
	if len(imports[module+"backend"]) == 0 {
		t.Fatal("the packages of the module were not found")
	}
	for _, rule := range layerRules() {
		t.Run(rule.description, func(t *testing.T) {
			for _, broken := range rule.check(imports) {
				t.Error(broken)
			}
		})
	}
}

func TestLayers_NoticeEveryBreach(t *testing.T) {
	for _, rule := range layerRules() {
		t.Run(rule.description, func(t *testing.T) {
			for _, forbidden := range rule.violations() {
				if len(rule.check(forbidden)) == 0 {
					t.Errorf("not noticed: %v", forbidden)
				}
			}
		})
	}
}

// A package that is on no floor would be held to nothing.
func TestLayers_HaveFloorForEveryPackageOfPGMQ(t *testing.T) {
	below := module + "backend/pgmq/internal/"
	known := slices.Concat(pgmqFloors...)
	for pkg := range listPackages(t) {
		if name, ok := strings.CutPrefix(pkg, below); ok && !slices.Contains(known, name) {
			t.Errorf("%s is on no floor", pkg)
		}
	}
}

var floorRow = regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|")

// What a reader of the design sees is what is checked.
func TestLayers_AreThoseOfTheDesign(t *testing.T) {
	shown := make([][]string, len(pgmqFloors))
	for _, row := range floorRow.FindAllStringSubmatch(readPages(t)["docs/design.md"], -1) {
		floor, err := strconv.Atoi(row[1])
		if err != nil || floor < 1 || floor > len(shown) {
			t.Errorf("docs/design.md has %s on floor %s, which is not there", row[2], row[1])
			continue
		}
		shown[floor-1] = append(shown[floor-1], row[2])
	}
	for i, floor := range pgmqFloors {
		if slices.Sort(shown[i]); !slices.Equal(shown[i], floor) {
			t.Errorf("docs/design.md has %q on floor %d, which has %q", shown[i], i+1, floor)
		}
	}
}

func TestLayers_NamePathOfIndirectImport(t *testing.T) {
	rule := layer{of: "m/a", never: "m/z/..."}
	got := rule.check(graph{
		"m/a":   {"fmt", "m/b"},
		"m/b":   {"m/a2", "m/c"},
		"m/a2":  {"m/z2"},
		"m/c":   {"m/z/y"},
		"m/z/y": {"m/z"},
	})
	want := []string{"m/a → m/b → m/c → m/z/y", "m/a → m/b → m/c → m/z/y → m/z"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLayers_AcceptConformingPackage(t *testing.T) {
	imports := graph{
		module + "backend":              {"context", "github.com/ThreeDotsLabs/watermill/message"},
		module + "backend/memory":       {"sync", module + "backend"},
		module + "backend/pgmq":         {module + "backend", "github.com/jackc/pgx/v5"},
		module + "ezq":                  {module + "backend"},
		module + "ezqother":             {module + "backend/pgmq"},
		module + "conformance":          {module + "ezq", "github.com/stretchr/testify/require"},
		"github.com/jackc/pgx/v5":       {"context"},
		"github.com/stretchr/testifyed": {"context"},
	}
	for _, rule := range layers {
		for _, broken := range rule.check(imports) {
			t.Errorf("%s: %s", rule.description, broken)
		}
	}
}
