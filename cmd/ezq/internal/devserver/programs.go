package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// programs is the directory of PostgreSQL's programs.
type programs struct{ bin string }

// installed returns the directory of PostgreSQL's programs on this machine.
func installed(lookup func(string) (string, bool)) (string, error) {
	if bin, _ := lookup("EZQ_POSTGRES_BIN"); bin != "" {
		if !hasPrograms(bin) {
			return "", fmt.Errorf("EZQ_POSTGRES_BIN=%s does not hold initdb, pg_ctl and postgres", bin)
		}
		return bin, nil
	}
	for _, bin := range candidates() {
		if hasPrograms(bin) {
			return bin, nil
		}
	}
	return "", errors.New("PostgreSQL's server programs were not found: install the package postgresql, or name their directory in EZQ_POSTGRES_BIN")
}

// candidates is where PostgreSQL's packages have their programs, the newest first.
func candidates() []string {
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

func hasPrograms(bin string) bool {
	for _, program := range []string{"initdb", "pg_ctl", "postgres"} {
		if _, err := exec.LookPath(filepath.Join(bin, program)); err != nil {
			return false
		}
	}
	return true
}

// run runs a program as the server's user, and returns what it says.
func (p programs) run(ctx context.Context, program string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, filepath.Join(p.bin, program), args...) //nolint:gosec // a program of PostgreSQL, or of who has set EZQ_POSTGRES_BIN
	command.Dir = "/"                                                           // the server's user may not be allowed to be where we are
	command.Env = append(os.Environ(), "LC_ALL=C")
	command.WaitDelay = stopTimeout
	if err := asServer(command); err != nil {
		return "", err
	}
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
