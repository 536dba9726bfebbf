package console

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/ezq-go/ezq/backend"
)

// Console is an [http.Handler]. Create it with [New], and Close it at the end. Its methods may be called concurrently.
type Console struct {
	config  Config
	client  client
	samples *sampler
	pages   *pages
	mux     *http.ServeMux
	origins *http.CrossOriginProtection

	closing context.Context //nolint:containedctx // ends with Close
	close   context.CancelFunc
	running sync.WaitGroup // the sampler
	viewers chan struct{}  // has room for each that is allowed
}

// maxViewers is how many pages are kept up to date at a time.
const maxViewers = 200

// client is what the console asks. Without what it cannot do, the others are nil.
type client struct {
	inspector backend.Inspector
	finder    backend.Finder
	letters   backend.DeadLetterStore
	pauser    backend.Pauser
	canceller backend.Canceller
	schedules backend.Schedules
	checker   backend.Checker
	programs  backend.ProgramLister
}

// Close ends what keeps pages up to date, and waits for it. A request that comes later gets no page.
func (c *Console) Close() error {
	c.close()
	c.running.Wait()
	return nil
}

// ServeHTTP implements [http.Handler].
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header())
	if c.closing.Err() != nil {
		http.Error(w, "the console is closed: start the program again that has it", http.StatusServiceUnavailable)
		return
	}
	if p := c.config.Prefix; p != "" && r.URL.Path == p {
		w.Header().Set("Location", path.Base(p)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	} else if strings.HasPrefix(r.URL.Path, p+"/") && p != "" {
		http.StripPrefix(p, http.HandlerFunc(c.serve)).ServeHTTP(w, r)
		return
	}
	c.serve(w, r)
}

// serve serves a request without the prefix.
func (c *Console) serve(w http.ResponseWriter, r *http.Request) {
	if err := c.origins.Check(r); err != nil {
		c.page(func(v *view) {
			v.fail(http.StatusForbidden, "The request comes from another site, and was refused.", "Open the console itself, and do it there.")
		})(w, r)
		return
	}
	// ServeMux answers paths like a//b with a redirect to an absolute path, which has lost the prefix.
	if r.URL.Path == "" || path.Clean(r.URL.Path) != r.URL.Path {
		c.page(func(v *view) { v.fail(http.StatusNotFound, "There is no such page.", "Go back to the queues.") })(w, r)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// page returns a handler that shows a page, within the time limit.
func (c *Console) page(show func(*view)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), c.config.Timeout)
		defer cancel()
		v := &view{Console: c, w: w, r: r, ctx: ctx, rights: c.rights(r)}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			v.fail(http.StatusBadRequest, "The form cannot be read: it is too large, or is none.", fmt.Sprintf("Send at most %d bytes.", maxForm))
			return
		}
		if name, size := v.longField(); size > 0 {
			v.fail(http.StatusBadRequest, fmt.Sprintf("A field has %d bytes, and at most %d are taken: %.40q.", size, maxField, name), "Send less.")
			return
		}
		show(v)
	}
}

// setHeaders has a browser run and load nothing but what the console itself serves.
func setHeaders(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
		"X-Robots-Tag":                 "noindex",
	} {
		h.Set(name, value)
	}
}

// rights returns what the sender of a request may see and do.
func (c *Console) rights(r *http.Request) Rights {
	if c.config.Allow == nil {
		return Rights{}
	}
	return c.config.Allow(r).normal()
}

// user returns who has sent a request.
func (c *Console) user(r *http.Request) string {
	name := ""
	if c.config.User != nil {
		name = strings.TrimSpace(strings.ToValidUTF8(strings.ReplaceAll(c.config.User(r), "\x00", ""), ""))
	}
	if name == "" {
		return "console"
	}
	return beginning(name, backend.MaxPauseAuthor)
}
