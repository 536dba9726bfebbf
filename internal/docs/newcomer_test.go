package docs

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ezq-go/ezq/internal/pgtest"
)

// From an empty folder to a handled event, with nothing but what the README says.
// Only "go get" is replaced: it would fetch a release instead of what is here. That it fetches all
// that the program needs is for scripts/standalone to show.
func TestReadme_LeadsNewcomerToHandledEvent(t *testing.T) {
	t.Parallel()
	database := pgtest.Database(t)
	begin := time.Now()
	folder := emptyFolder(t)
	write(t, folder, "main.go", program(t))
	goCommand(t, folder, "build", "-mod=mod", "-o", "hello", ".")
	built := time.Since(begin)

	hello := exec.CommandContext(t.Context(), filepath.Join(folder, "hello"))
	hello.Env = append(os.Environ(), "EZQ_DATABASE_URL="+database)
	var complaints strings.Builder
	hello.Stderr = &complaints
	out, err := hello.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := hello.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	if line != "welcome, ada@example.com\n" {
		t.Errorf("it says %q\n%s", line, &complaints)
	}
	handled := time.Since(begin)
	if err := hello.Process.Signal(os.Interrupt); err != nil { // Ctrl-C
		t.Error(err)
	}
	if _, err := io.ReadAll(out); err != nil {
		t.Error(err)
	}
	if err := hello.Wait(); err != nil {
		t.Errorf("it does not stop as it should: %v\n%s", err, &complaints)
	}
	t.Logf("built after %v, the event handled after %v", built.Round(time.Millisecond), handled.Round(time.Millisecond))
}

// program returns the one whole program of the README.
func program(t *testing.T) string {
	t.Helper()
	for _, block := range pageNamed(t, "README.md").goBlocks() {
		if block.whole() {
			return block.text
		}
	}
	t.Fatal("the README has no program")
	return ""
}

func emptyFolder(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	here, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	goCommand(t, folder, "mod", "init", "hello")
	goCommand(t, folder, "mod", "edit", "-require="+module+"@v0.0.0", "-replace="+module+"="+here)
	sums, err := os.ReadFile(root + "/go.sum")
	if err != nil {
		t.Fatal(err)
	}
	write(t, folder, "go.sum", string(sums))
	return folder
}

func write(t *testing.T, folder, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func goCommand(t *testing.T, folder string, args ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = folder
	command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
