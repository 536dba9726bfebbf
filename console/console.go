package console

import (
	"context"
	"errors"
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

// New returns a console of a client, which stays the caller's. The client must be a [backend.Inspector], as that of
// backend/pgmq and the Broker of backend/memory are. New does not connect. A nil config is that of the defaults.
func New(of any, config *Config) (*Console, error) {
	settings, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	inspector, ok := of.(backend.Inspector)
	if !ok {
		return nil, fmt.Errorf("console: %T is no backend.Inspector: use a client of backend/pgmq, or a Broker of backend/memory: %w", of, errors.ErrUnsupported)
	}
	c := &Console{config: settings, client: client{inspector: inspector}, viewers: make(chan struct{}, maxViewers), origins: http.NewCrossOriginProtection()}
	c.client.finder, _ = of.(backend.Finder)
	c.client.letters, _ = of.(backend.DeadLetterStore)
	c.client.pauser, _ = of.(backend.Pauser)
	c.client.canceller, _ = of.(backend.Canceller)
	c.client.checker, _ = of.(backend.Checker)
	c.client.programs, _ = of.(backend.ProgramLister)
	if s, ok := of.(backend.Scheduler); ok {
		c.client.schedules = s.Schedules()
	}
	if c.pages, err = newPages(); err != nil {
		return nil, err
	}
	c.closing, c.close = context.WithCancel(context.Background())
	c.samples = newSampler(inspector, settings.Interval, settings.Timeout)
	c.mux = c.routes()
	c.running.Go(func() { c.samples.run(c.closing) })
	return c, nil
}

// Close ends what keeps pages up to date, and waits for it. A request that comes later gets no page.
func (c *Console) Close() error {
	c.close()
	c.running.Wait()
	return nil
}

func (c *Console) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", c.page(func(v *view) { queuesView{v}.queues() }))
	mux.HandleFunc("GET /queue", c.page(func(v *view) { queuesView{v}.queue() }))
	mux.HandleFunc("GET /event", c.page(func(v *view) { eventView{v}.event() }))
	mux.HandleFunc("GET /dead", c.page(func(v *view) { deadView{v}.dead() }))
	mux.HandleFunc("GET /letter", c.page(func(v *view) { deadView{v}.letter() }))
	mux.HandleFunc("GET /schedules", c.page(func(v *view) { listsView{v}.schedules() }))
	mux.HandleFunc("GET /groups", c.page(func(v *view) { listsView{v}.groups() }))
	mux.HandleFunc("GET /programs", c.page(func(v *view) { listsView{v}.programs() }))
	mux.HandleFunc("GET /doctor", c.page(func(v *view) { listsView{v}.doctor() }))
	mux.HandleFunc("GET /confirm", c.page(func(v *view) { actionsView{v}.confirm() }))
	mux.HandleFunc("POST /confirm", c.page(func(v *view) { actionsView{v}.confirm() }))
	mux.HandleFunc("POST /do", c.page(func(v *view) { actionsView{v}.do() }))
	mux.HandleFunc("GET /done", c.page(func(v *view) { actionsView{v}.done() }))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, r *http.Request) { live(c, w, r) })
	mux.HandleFunc("GET /console.css", asset("console.css", "text/css; charset=utf-8"))
	mux.HandleFunc("GET /console.js", asset("console.js", "text/javascript; charset=utf-8"))
	mux.HandleFunc("/", c.page(func(v *view) { v.fail(http.StatusNotFound, "There is no such page.", "Go back to the queues.") }))
	return mux
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
