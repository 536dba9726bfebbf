package official

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Package is an npm package of one version.
type Package struct{ Name, Version string }

// String returns the package as npm takes it.
func (p Package) String() string { return p.Name + "@" + p.Version }

// Fetcher downloads, and keeps what it has downloaded. It goes through the proxy that HTTPS_PROXY names.
type Fetcher struct {
	Registry string // of npm packages
	Cache    string // a directory; "" for none
	Client   *http.Client
}

// fetchTimeout is for the whole of one download.
const fetchTimeout = 5 * time.Minute

// NewFetcher returns a fetcher for the registry that npm_config_registry names, and the user's directory of caches.
// Lookup is as os.LookupEnv is.
func NewFetcher(lookup func(string) (string, bool)) Fetcher {
	f := Fetcher{Registry: "https://registry.npmjs.org", Client: &http.Client{Timeout: fetchTimeout}}
	for _, name := range []string{"NPM_CONFIG_REGISTRY", "npm_config_registry"} { // npm takes both
		if registry, _ := lookup(name); registry != "" {
			f.Registry = registry
		}
	}
	if directory, err := os.UserCacheDir(); err == nil {
		f.Cache = filepath.Join(directory, "ezq")
	}
	return f
}

// Package returns the archive of a package that has this checksum, and at most so many bytes.
func (f Fetcher) Package(ctx context.Context, p Package, sha256 string, limit int64) ([]byte, error) {
	name := strings.ReplaceAll(strings.TrimPrefix(p.Name, "@"), "/", "-") + "-" + p.Version + ".tgz"
	if content := f.cached(name, sha256); content != nil {
		return content, nil
	}
	content, err := f.download(ctx, p, limit)
	if err != nil {
		return nil, err
	}
	if err := check(content, sha256); err != nil {
		return nil, fmt.Errorf("the package %s of %s is not what its publisher has released: %w", p, redacted(f.Registry), err)
	}
	f.keep(name, content)
	return content, nil
}

// download asks for the package where registries have it, and else where the registry says that it is.
func (f Fetcher) download(ctx context.Context, p Package, limit int64) ([]byte, error) {
	registry := strings.TrimRight(f.Registry, "/")
	content, err := f.get(ctx, registry+"/"+p.Name+"/-/"+p.Name[strings.LastIndex(p.Name, "/")+1:]+"-"+p.Version+".tgz", limit)
	var status *statusError
	if !errors.As(err, &status) || status.code != http.StatusNotFound {
		return content, err
	}
	described, failed := f.get(ctx, registry+"/"+strings.ReplaceAll(p.Name, "/", "%2f"), 64<<20)
	if failed != nil {
		return nil, err
	}
	var description struct {
		Versions map[string]struct {
			Dist struct{ Tarball string }
		}
	}
	if failed := json.Unmarshal(described, &description); failed != nil || description.Versions[p.Version].Dist.Tarball == "" {
		return nil, err
	}
	return f.get(ctx, description.Versions[p.Version].Dist.Tarball, limit)
}

// statusError is an answer that is not what was asked for.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// get returns what is at an address, which may have a password that no error shows.
func (f Fetcher) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.Host == "" {
		return nil, errors.New("its address is no URL with https:// or http://")
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, errors.New("its address is no URL with https:// or http://")
	}
	response, err := f.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, &statusError{response.StatusCode, fmt.Sprintf("%s: the server says %s", parsed.Redacted(), response.Status)}
	}
	return readAll(response.Body, limit, parsed.Redacted())
}

// readAll reads to the end, which must come before the limit.
func readAll(r io.Reader, limit int64, from string) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", from, err)
	case int64(len(content)) > limit:
		return nil, fmt.Errorf("%s has more than %d bytes, and is not what was expected", from, limit)
	}
	return content, nil
}

// redacted returns an address without its password.
func redacted(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return "the address"
	}
	return parsed.Redacted()
}

// cached returns a file that was kept, or nil. Another program may have written to it: it counts if it has the checksum.
func (f Fetcher) cached(name, sha256 string) []byte {
	if f.Cache == "" {
		return nil
	}
	content, err := os.ReadFile(filepath.Join(f.Cache, name)) //nolint:gosec // its checksum is compared
	if err != nil || check(content, sha256) != nil {
		return nil
	}
	return content
}

// keep keeps a file, if it can. The next download is spared by it, and nothing else.
func (f Fetcher) keep(name string, content []byte) {
	if f.Cache == "" || os.MkdirAll(f.Cache, 0o700) != nil {
		return
	}
	file, err := os.CreateTemp(f.Cache, "fetch.*")
	if err != nil {
		return
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), filepath.Join(f.Cache, name)) // in one step: others may be reading
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
}
