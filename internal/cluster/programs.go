package cluster

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	serverprograms "github.com/ezq-go/ezq/internal/programs"
)

// programs is the directory of PostgreSQL's programs, and the user that may run
// them.
type programs struct {
	bin    string
	prefix []string   // changes to the server's user; empty if that is ours
	server *user.User // nil if that is ours
}

func findPrograms(tb testing.TB) programs {
	tb.Helper()
	for _, bin := range candidates() {
		if hasPrograms(bin) {
			p := programs{bin: bin}
			if os.Geteuid() == 0 {
				p.useServerUser(tb)
			}
			return p
		}
	}
	unavailable(tb, "PostgreSQL's server programs were not found: install them, or name their directory in EZQ_POSTGRES_BIN")
	return programs{}
}

// unavailable skips the test for lack of something, or fails it if CI is set.
func unavailable(tb testing.TB, reason string) {
	tb.Helper()
	if os.Getenv("CI") != "" {
		tb.Fatal(reason)
	}
	tb.Skip(reason)
}

// candidates is where scripts/pgmq looks too.
func candidates() []string {
	if bin := os.Getenv("EZQ_POSTGRES_BIN"); bin != "" {
		return []string{bin}
	}
	return serverprograms.Directories()
}

func hasPrograms(bin string) bool {
	return serverprograms.AreIn(bin, "initdb", "pg_ctl", "postgres", "pg_basebackup")
}

// useServerUser is for root, whom PostgreSQL refuses.
func (p *programs) useServerUser(tb testing.TB) {
	tb.Helper()
	var err error
	if p.server, err = user.Lookup("postgres"); err != nil {
		unavailable(tb, "PostgreSQL refuses to run as root, and there is no user named postgres")
	}
	if _, err := exec.LookPath("setpriv"); err == nil {
		p.prefix = []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--"}
	} else {
		p.prefix = []string{"runuser", "-u", "postgres", "--"}
	}
}

// command returns the command line that runs a program as the server's user.
func (p programs) command(program string, args ...string) []string {
	return slices.Concat(p.prefix, []string{filepath.Join(p.bin, program)}, args)
}

func (p programs) output(program string, args ...string) ([]byte, error) {
	return p.run(filepath.Join(p.bin, program), args...)
}

// run runs any program as the server's user.
func (p programs) run(program string, args ...string) ([]byte, error) {
	line := slices.Concat(p.prefix, []string{program}, args)
	command := exec.Command(line[0], line[1:]...)
	command.Dir = "/" // the server's user may not be allowed to be where we are
	command.Env = append(os.Environ(), "LC_ALL=C")
	return command.CombinedOutput()
}

func (p programs) children(pid int) (children []int) {
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output() // it fails if there are none
	for line := range strings.FieldsSeq(string(out)) {
		if child, err := strconv.Atoi(line); err == nil {
			children = append(children, child)
		}
	}
	return children
}
