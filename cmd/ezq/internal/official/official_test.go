package official

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func sum(content string) string {
	digest := sha256.Sum256([]byte(content))
	return hex.EncodeToString(digest[:])
}

func packed(t *testing.T, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for name, text := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text))}))
		_, err := w.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, zipped.Close())
	return b.String()
}

// release returns a release that consists of the SQL "create", and its package.
func release(t *testing.T) (Release, string) {
	t.Helper()
	const sql = "create"
	inner := packed(t, map[string]string{"share/pgmq--2.0.0.sql": sql, "share/pgmq--1.9.9--2.0.0.sql": "update", "share/pgmq.control": "x"})
	content := packed(t, map[string]string{"package/dist/pgmq.tar.gz": inner})
	return Release{Version: "2.0.0", SHA256: sum(sql), Package: Package{"@of/pgmq", "0.0.1"}, PackageSHA256: sum(content)}, content
}

// registry serves a package where registries do, or, elsewhere, where its description says.
func registry(t *testing.T, content string, elsewhere bool) (address string, served *atomic.Int64) {
	t.Helper()
	served = &atomic.Int64{}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	serve := func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		_, _ = w.Write([]byte(content))
	}
	if !elsewhere {
		mux.HandleFunc("/npm/@of/pgmq/-/pgmq-0.0.1.tgz", serve)
		return server.URL + "/npm/", served
	}
	mux.HandleFunc("/files/it.tgz", serve)
	mux.HandleFunc("/npm/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.EscapedPath() != "/npm/@of%2fpgmq" {
			http.NotFound(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"versions": {"0.0.1": {"dist": {"tarball": "%s/files/it.tgz"}}}}`, server.URL)
	})
	return server.URL + "/npm/", served
}

func fetcher(t *testing.T, registry string) Fetcher {
	t.Helper()
	f := NewFetcher(func(name string) (string, bool) { return registry, name == "npm_config_registry" })
	f.Cache = filepath.Join(t.TempDir(), "cache")
	return f
}

func TestSource_IsTheRegistryOfNpm(t *testing.T) {
	t.Parallel()
	for _, elsewhere := range []bool{false, true} {
		known, content := release(t)
		address, served := registry(t, content, elsewhere)
		s := Source{Release: known, Fetcher: fetcher(t, address)}
		for range 2 { // the second time it is in the cache
			b, err := s.Bundle(t.Context(), true)
			require.NoError(t, err)
			require.Equal(t, Bundle{Version: "2.0.0", Install: "create", Updates: []Update{{"1.9.9", "2.0.0", "update"}}}, b)
		}
		require.EqualValues(t, 1, served.Load())
	}
}

// Other programs of the user may write to the cache, and others may answer in the place of a registry.
func TestSource_TakesNothingWithAnotherChecksum(t *testing.T) {
	t.Parallel()
	known, content := release(t)
	address, _ := registry(t, content+" ", false)
	s := Source{Release: known, Fetcher: fetcher(t, address)}
	require.NoError(t, os.MkdirAll(s.Fetcher.Cache, 0o700))
	for _, name := range []string{"of-pgmq-0.0.1.tgz", "pgmq--2.0.0.sql"} {
		require.NoError(t, os.WriteFile(filepath.Join(s.Fetcher.Cache, name), []byte("drop database"), 0o600))
	}
	_, err := s.Bundle(t.Context(), false)
	require.ErrorContains(t, err, "is not what its publisher has released: its SHA-256 is "+sum(content+" ")+", and "+sum(content)+" is expected")

	require.NoError(t, os.WriteFile(filepath.Join(s.Fetcher.Cache, "pgmq--2.0.0.sql"), []byte("create"), 0o600))
	b, err := s.Bundle(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, "create", b.Install)
}

func TestSource_SaysWhatToDoWithoutNetwork(t *testing.T) {
	t.Parallel()
	known, _ := release(t)
	address, _ := registry(t, "", false)
	for _, registry := range []string{address + "nothing", "http://user:hunter2@127.0.0.1:1/", "ftp://user:hunter2@host", "::hunter2"} {
		_, err := Source{Release: known, Fetcher: fetcher(t, registry)}.Bundle(t.Context(), false)
		require.ErrorContains(t, err, "where there is no network, give a copy with --file: the package itself, which `npm pack @of/pgmq@0.0.1` downloads")
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestSource_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	known, content := release(t)
	file := filepath.Join(t.TempDir(), "some.tgz")
	require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
	for want, s := range map[string]Source{
		"both a file and a URL are given": {Release: known, File: file, URL: "http://x"},
		"a checksum is given without":     {Release: known, SHA256: sum("x")},
		"no such file":                    {Release: known, File: file + "x"},
		"is not that of 2.0.0":            {Release: Release{Version: "2.0.0", SHA256: sum("else"), PackageSHA256: sum(content)}, File: file},
	} {
		_, err := s.Bundle(t.Context(), true)
		require.ErrorContains(t, err, want)
	}
	empty := packed(t, map[string]string{"package/a": ""})
	require.NoError(t, os.WriteFile(file, []byte(empty), 0o600))
	_, err := Source{Release: known, File: file, SHA256: sum(empty)}.Bundle(t.Context(), true)
	require.ErrorContains(t, err, "has no pgmq.tar.gz")
}

func TestFetcher_ReadsNoMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	address, _ := registry(t, "0123456789", false)
	f := fetcher(t, address)
	_, err := f.Package(t.Context(), Package{"@of/pgmq", "0.0.1"}, sum("0123456789"), 9)
	require.ErrorContains(t, err, "has more than 9 bytes")
	_, err = f.Package(t.Context(), Package{"@of/pgmq", "0.0.1"}, sum("0123456789"), 10)
	require.NoError(t, err)
}

func TestOlder_ComparesNumbers(t *testing.T) {
	t.Parallel()
	for _, versions := range [][2]string{{"1.9.0", "1.10.0"}, {"1.5", "1.5.1"}, {"0", "1.5.0"}, {"1.11.1", "2"}} {
		require.True(t, Older(versions[0], versions[1]), versions)
		require.False(t, Older(versions[1], versions[0]), versions)
	}
	require.False(t, Older("1.5", "1.5.0"))
}
