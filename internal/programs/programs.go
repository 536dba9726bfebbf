// Package programs finds the programs of PostgreSQL's server on this machine.
package programs

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Directories returns where PostgreSQL's packages have their programs, the newest first, and before these where initdb and
// pg_config say. scripts/pgmq looks there too.
func Directories() []string {
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		matches, _ := filepath.Glob(pattern) // it errs on bad patterns only
		found = append(found, matches...)
	}
	slices.SortFunc(found, func(a, b string) int { return strings.Compare(b, a) })
	if bin, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		found = slices.Insert(found, 0, strings.TrimSpace(string(bin)))
	}
	if initdb, err := exec.LookPath("initdb"); err == nil {
		found = slices.Insert(found, 0, filepath.Dir(initdb))
	}
	return found
}

// AreIn reports whether a directory has all of these programs, and they may be run.
func AreIn(directory string, names ...string) bool {
	for _, name := range names {
		if _, err := exec.LookPath(filepath.Join(directory, name)); err != nil {
			return false
		}
	}
	return true
}
