package official

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxSQL is how large PGMQ's SQL, and the package that has it, may be. It has 64 KB.
const maxSQL = 16 << 20

// Source is where to take PGMQ's SQL from: a file, a URL, or if both are empty, the npm package of the release.
// A file is the SQL that installs PGMQ, or the npm package, which has the updates too.
type Source struct {
	Release   Release
	File, URL string
	SHA256    string // of File or URL, where that is another one than the pinned: who sets it vouches for the SQL
	Fetcher   Fetcher
}

// Bundle returns the SQL. Updates says that the scripts which update older versions are needed too.
func (s Source) Bundle(ctx context.Context, updates bool) (Bundle, error) {
	switch {
	case s.File != "" && s.URL != "":
		return Bundle{}, fmt.Errorf("both a file and a URL are given: PGMQ's SQL is taken from one of them")
	case s.SHA256 != "" && s.File == "" && s.URL == "":
		return Bundle{}, fmt.Errorf("a checksum is given without a file or a URL")
	case s.File != "":
		content, err := s.read()
		if err != nil {
			return Bundle{}, err
		}
		return s.checked(content, s.File)
	case s.URL != "":
		content, err := s.Fetcher.get(ctx, s.URL, maxSQL)
		if err != nil {
			return Bundle{}, fmt.Errorf("PGMQ's SQL cannot be fetched: %w", err)
		}
		return s.checked(content, redacted(s.URL))
	}
	return s.pinned(ctx, updates)
}

// read returns the content of the file, unless it is too large.
func (s Source) read() ([]byte, error) {
	file, err := os.Open(s.File)
	if err != nil {
		return nil, fmt.Errorf("PGMQ's SQL cannot be read: %w", err)
	}
	defer func() { _ = file.Close() }()
	return readAll(file, maxSQL, s.File)
}

// checked returns what is in content, which is from a place that the user has named.
func (s Source) checked(content []byte, from string) (Bundle, error) {
	isPackage := bytes.HasPrefix(content, []byte("\x1f\x8b"))
	want := s.Release.SHA256
	if isPackage {
		want = s.Release.PackageSHA256
	}
	own := s.SHA256 != ""
	if err := check(content, cmp.Or(strings.ToLower(s.SHA256), want)); err != nil {
		err = fmt.Errorf("%s is not PGMQ %s: %w", from, s.Release.Version, err)
		if !own {
			err = fmt.Errorf("%w; if you want another version of PGMQ and know where the file is from, give its checksum with --sha256", err)
		}
		return Bundle{}, err
	}
	if isPackage {
		return unpack(content, s.Release, !own)
	}
	bundle := Bundle{Version: s.Release.Version, Install: string(content)}
	if own {
		bundle.Version = versionIn(filepath.Base(from))
	}
	return bundle, nil
}

// versionIn returns the version in the name of a file, as in pgmq--1.11.1.sql.
func versionIn(name string) string {
	found := regexp.MustCompile(`^pgmq--([0-9]+(?:\.[0-9]+)+)\.sql$`).FindStringSubmatch(name)
	if found == nil {
		return ""
	}
	return found[1]
}

// pinned returns the release from the cache, or else from its package.
func (s Source) pinned(ctx context.Context, updates bool) (Bundle, error) {
	if !updates {
		if content := s.Fetcher.cached("pgmq--"+s.Release.Version+".sql", s.Release.SHA256); content != nil {
			return Bundle{Version: s.Release.Version, Install: string(content)}, nil
		}
	}
	content, err := s.Fetcher.Package(ctx, s.Release.Package, s.Release.PackageSHA256, maxSQL)
	if err != nil {
		return Bundle{}, fmt.Errorf("PGMQ %s cannot be fetched: %w; where there is no network, give a copy with --file:"+
			" the package itself, which `npm pack %s` downloads, or pgmq--%[1]s.sql from it", s.Release.Version, err, s.Release.Package)
	}
	return unpack(content, s.Release, true)
}

// check compares content with a checksum.
func check(content []byte, want string) error {
	sum := sha256.Sum256(content)
	if got := hex.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("its SHA-256 is %s, and %s is expected", got, want)
	}
	return nil
}
