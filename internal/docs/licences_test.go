package docs

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const dependenciesPage = "docs/dependencies.md"

func TestLicences_OfAllDependenciesAreListed(t *testing.T) {
	t.Parallel()
	listed, used := listedLicences(t), usedModules(t)
	for _, path := range slices.Sorted(maps.Keys(used)) {
		licence := licenceOf(used[path])
		switch {
		case licence == "":
			t.Errorf("%s: what is its licence? See %s", path, used[path])
		case listed[path] == "":
			t.Errorf("%s does not list %s: %s", dependenciesPage, path, licence)
		case listed[path] != licence:
			t.Errorf("%s says that the licence of %s is %s; it is %s", dependenciesPage, path, listed[path], licence)
		}
	}
	for path := range listed {
		if used[path] == "" {
			t.Errorf("%s lists %s, which nothing uses any more", dependenciesPage, path)
		}
	}
}

// licences has a sentence of each licence that is known here.
var licences = []struct{ name, sentence string }{
	{"Apache-2.0", "apache license,? version 2.0"},
	{"MIT", "permission is hereby granted, free of charge, to any person obtaining a copy"},
	{"BSD-3-Clause", "neither the names? of"},
	{"BSD-2-Clause", "redistributions in binary form must reproduce"},
	{"MPL-2.0", "mozilla public license,? version 2.0"},
}

// licenceOf returns the licences of the module in a directory, or "".
func licenceOf(dir string) string {
	var found []string
	files, _ := filepath.Glob(filepath.Join(dir, "LICENSE*"))
	for _, file := range files[:min(1, len(files))] {
		text, err := os.ReadFile(file)
		if err != nil {
			return ""
		}
		words := strings.ToLower(strings.Join(strings.Fields(string(text)), " "))
		for _, licence := range licences {
			if regexp.MustCompile(licence.sentence).MatchString(words) {
				found = append(found, licence.name)
			}
		}
	}
	// The third clause comes on top of the other two.
	return strings.ReplaceAll(strings.Join(found, " and "), "BSD-3-Clause and BSD-2-Clause", "BSD-3-Clause")
}

var licenceRow = regexp.MustCompile("^\\| `([^`]+)` \\| ([^|]+) \\|")

func listedLicences(t *testing.T) map[string]string {
	t.Helper()
	listed := map[string]string{}
	for _, line := range pageNamed(t, dependenciesPage).lines {
		if row := licenceRow.FindStringSubmatch(line); row != nil {
			listed[row[1]] = row[2]
		}
	}
	return listed
}

// usedModules returns the directory of each module that code or tests of the repository import
// from, in any of its modules.
func usedModules(t *testing.T) map[string]string {
	t.Helper()
	modules, err := exec.CommandContext(t.Context(), root+"/scripts/modules").Output()
	if err != nil {
		t.Fatal("scripts/modules:", err)
	}
	used := map[string]string{}
	for dir := range strings.FieldsSeq(string(modules)) {
		command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-test",
			"-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", "./...")
		command.Dir = filepath.Join(root, dir)
		command.Env = append(os.Environ(), "GOWORK=off")
		out, err := command.Output()
		if failed := new(exec.ExitError); errors.As(err, &failed) {
			t.Fatalf("go list in %s: %v\n%s", dir, err, failed.Stderr)
		}
		for line := range strings.Lines(string(out)) {
			path, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
			if path != "" && !strings.HasPrefix(path, module) {
				used[path] = dir
			}
		}
	}
	return used
}
