package devserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	serverprograms "github.com/ezq-go/ezq/internal/programs"
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
	for _, bin := range serverprograms.Directories() {
		if hasPrograms(bin) {
			return bin, nil
		}
	}
	return "", errors.New("PostgreSQL's server programs were not found: install the package postgresql, or name their directory in EZQ_POSTGRES_BIN")
}

func hasPrograms(bin string) bool { return serverprograms.AreIn(bin, "initdb", "pg_ctl", "postgres") }

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
