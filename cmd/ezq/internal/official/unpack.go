package official

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// unpack returns the SQL in the npm package, which has an archive in it. Pinned says that it must be that of the release.
func unpack(content []byte, release Release, pinned bool) (Bundle, error) {
	var inner []byte
	err := eachFile(content, func(name string, r io.Reader) (err error) {
		if path.Base(name) == "pgmq.tar.gz" {
			inner, err = readAll(r, maxSQL, name)
		}
		return err
	})
	if err != nil || inner == nil {
		return Bundle{}, errors.Join(errors.New("the package of PGMQ has no pgmq.tar.gz that can be read"), err)
	}
	files := map[string]string{}
	err = eachFile(inner, func(name string, r io.Reader) error {
		text, err := readAll(r, maxSQL, name)
		files[path.Base(name)] = string(text)
		return err
	})
	if err != nil {
		return Bundle{}, fmt.Errorf("the package of PGMQ cannot be read: %w", err)
	}
	bundle := bundleOf(files)
	switch {
	case bundle.Install == "":
		return Bundle{}, errors.New("the package of PGMQ has no SQL that installs it")
	case pinned:
		if err := check([]byte(bundle.Install), release.SHA256); err != nil {
			return Bundle{}, fmt.Errorf("the SQL in the package of PGMQ is not that of %s: %w", release.Version, err)
		}
	}
	return bundle, nil
}

// bundleOf returns the newest SQL that installs PGMQ, and the updates.
func bundleOf(files map[string]string) (b Bundle) {
	update := regexp.MustCompile(`^pgmq--([0-9.]+)--([0-9.]+)\.sql$`)
	for name, text := range files {
		if version := versionIn(name); version != "" && (b.Version == "" || Older(b.Version, version)) {
			b.Version, b.Install = version, text
		}
		if found := update.FindStringSubmatch(name); found != nil {
			b.Updates = append(b.Updates, Update{From: found[1], To: found[2], SQL: text})
		}
	}
	slices.SortFunc(b.Updates, func(x, y Update) int { return strings.Compare(x.From+" "+x.To, y.From+" "+y.To) })
	return b
}

// eachFile calls f with each regular file of a compressed archive.
func eachFile(content []byte, f func(name string, r io.Reader) error) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return err
	}
	archive := tar.NewReader(unzipped)
	for {
		header, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case header.Typeflag != tar.TypeReg:
			continue
		}
		if err := f(header.Name, archive); err != nil {
			return err
		}
	}
}
