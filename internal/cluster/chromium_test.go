package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// findChromium runs scripts/chromium where there are no programs but those that it needs itself, and those in bin.
func findChromium(t *testing.T, bin string, env ...string) (output string, code int) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("scripts/chromium is a program of bash, which is not there")
	}
	for _, name := range []string{"dirname", "id"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(ctx, bash, "../../scripts/chromium")
	command.Env = append(env, "PATH="+bin)
	out, err := command.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func browser(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestChromium_FindsBrowserThatRuns(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	browser(t, bin, "chromium-browser", "echo install the snap; exit 1") // as that of Ubuntu
	chrome := browser(t, bin, "google-chrome", "exit 0")
	if output, code := findChromium(t, bin); code != 0 || output != chrome+"\n" {
		t.Errorf("%d: %s", code, output)
	}
}

func TestChromium_TakesTheOneThatIsNamed(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	browser(t, bin, "chromium", "exit 0")
	named := browser(t, t.TempDir(), "mine", "exit 0")
	if output, code := findChromium(t, bin, "EZQ_CHROMIUM="+named); code != 0 || output != named+"\n" {
		t.Errorf("%d: %s", code, output)
	}
}

func TestChromium_NamesWhatIsMissingInOneLine(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  []string
		want string
	}{
		"there is no browser":              {nil, "install the package chromium, or set EZQ_CHROMIUM"},
		"the one that is named is missing": {[]string{"EZQ_CHROMIUM=/nowhere"}, "EZQ_CHROMIUM=/nowhere is no browser that runs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, code := findChromium(t, t.TempDir(), c.env...)
			if code != 3 || !strings.Contains(output, c.want) || strings.Count(output, "\n") != 1 {
				t.Errorf("%d: %s", code, output)
			}
		})
	}
}
