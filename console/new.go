package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/ezq-go/ezq/backend"
)

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
	c.mux = routes(c)
	c.running.Go(func() { c.samples.run(c.closing) })
	return c, nil
}

// routes are all pages.
func routes(c *Console) *http.ServeMux {
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
