package browser

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/memory"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/console"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/ezq/schedule"
	"github.com/ezq-go/ezq/internal/pgtest"
	"github.com/ezq-go/ezq/middleware"
)

// OrderPlaced is the event of the tests.
type OrderPlaced struct {
	Order int    `json:"order"`
	Item  string `json:"item"`
}

const (
	orders  = "orders"
	letters = orders + backend.DeadLetterSuffix
	nightly = "nightly"
)

// client is what the tests need of a backend.
type client interface {
	backend.Backend
	message.SubscribeInitializer
	backend.Inspector
	backend.Finder
	backend.Pauser
	backend.DeadLetterStore
	backend.Scheduler
}

// onMemory returns a broker with three orders that wait, one that is delayed, two dead letters and a schedule.
func onMemory(t *testing.T) client {
	t.Helper()
	broker := memory.New(&memory.Config{Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = broker.Close() })
	fill(t, broker)
	return broker
}

// onPGMQ returns a client of a database of its own with the same.
func onPGMQ(t *testing.T) client {
	t.Helper()
	needChromium(t)
	opened, err := pgmq.Open(t.Context(), pgtest.Database(t), nil)
	check(t, err)
	t.Cleanup(func() { _ = opened.Close() })
	fill(t, opened)
	return opened
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fill(t *testing.T, c client) {
	t.Helper()
	check(t, c.SubscribeInitialize(orders))
	check(t, c.SubscribeInitialize(letters))
	deadLetter(t, c, "dead-1", "card 4711 has expired")
	deadLetter(t, c, "dead-2", "there is no address")
	for _, id := range []string{"order-1", "order-2", "order-3"} {
		publish(t, c, OrderPlaced{Order: 1, Item: "Assam"}, ezq.ID(id), ezq.Header("shop", "tea"))
	}
	publish(t, c, OrderPlaced{Order: 4, Item: "Sencha"}, ezq.ID("order-4"), ezq.Delay(time.Hour))
	timetable, err := schedule.New(c, &schedule.Config{Logger: slog.New(slog.DiscardHandler)})
	check(t, err)
	check(t, timetable.Add(nightly, schedule.Every(24*time.Hour), OrderPlaced{}, ezq.Topic("reports")))
	run, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- timetable.Run(run) }()
	pgtest.Eventually(t, patience, "the schedule is known", func() bool {
		known, err := c.Schedules().List(t.Context())
		return err == nil && len(known) == 1
	})
	stop()
	check(t, <-ended)
}

func publish(t *testing.T, c client, event any, options ...ezq.PublishOption) {
	t.Helper()
	check(t, ezq.Publish(t.Context(), c, event, append(options, ezq.Topic(orders))...))
}

// deadLetter publishes an order, and has a handler dead-letter it.
func deadLetter(t *testing.T, c client, id, reason string, options ...ezq.PublishOption) {
	t.Helper()
	publish(t, c, OrderPlaced{Order: 9, Item: "Gyokuro"}, append(options, ezq.ID(id))...)
	ctx, stop := context.WithCancel(t.Context())
	router := ezq.NewRouter(c, &ezq.Config{Logger: slog.New(slog.DiscardHandler)})
	router.Use(middleware.Poison{}.Middleware)
	ezq.Handle(router, func(context.Context, OrderPlaced) error { return ezq.Permanent(errors.New(reason)) },
		ezq.Topic(orders), ezq.Name("charge"))
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	pgtest.Eventually(t, patience, "it is a dead letter", func() bool { return len(lettersOf(t, c, backend.DeadLetterSelection{ID: id})) == 1 })
	stop()
	check(t, <-ended)
}

func lettersOf(t *testing.T, c client, s backend.DeadLetterSelection) []backend.FoundDeadLetter {
	t.Helper()
	found, err := c.DeadLetters(t.Context(), letters, s)
	check(t, err)
	return found
}

// stateOf returns the states in which an event is.
func stateOf(t *testing.T, c client, id string) string {
	t.Helper()
	found, err := c.Find(t.Context(), orders, backend.Selection{ID: id})
	check(t, err)
	states := ""
	for _, f := range found {
		states += f.State.String()
	}
	return states
}

func pauses(t *testing.T, c client) []backend.Paused {
	t.Helper()
	all, err := c.Pauses(t.Context(), orders)
	check(t, err)
	return all
}

// serve serves the console of a client, with these rights, and returns its URL.
func serve(t *testing.T, c client, rights console.Rights) string {
	t.Helper()
	site, _ := start(t, c, rights)
	return site
}

// start is serve with what ends the console, as a program does that ends.
func start(t *testing.T, c client, rights console.Rights) (site string, stop func()) {
	t.Helper()
	needChromium(t)
	shown, err := console.New(c, &console.Config{
		Title: "tea shop", Interval: time.Second, Timeout: patience, Logger: slog.New(slog.DiscardHandler),
		Allow: func(*http.Request) console.Rights { return rights }, User: func(*http.Request) string { return "ada" },
	})
	check(t, err)
	server := httptest.NewServer(shown)
	t.Cleanup(server.Close)
	t.Cleanup(func() { _ = shown.Close() })
	return server.URL, func() { _ = shown.Close() }
}

// shows fails the test unless the page has a text.
func (b *tab) shows(texts ...string) {
	b.t.Helper()
	page := ask[string](b, "document.body.innerText")
	for _, text := range texts {
		if !strings.Contains(page, text) {
			b.t.Fatalf("the page does not show %q:\n%s", text, page)
		}
	}
}

// follow clicks on the link, or the button, with a text, and waits for the page behind it.
func (b *tab) follow(text string) {
	b.t.Helper()
	found := ask[int](b, `(() => {
		const all = [...document.querySelectorAll("a, button")].filter(e => e.textContent.trim() === `+strconv.Quote(text)+`);
		all.forEach(e => e.id = "chosen");
		return all.length;
	})()`)
	if found != 1 {
		b.t.Fatalf("%d links and buttons say %q, and not one: %s", found, text, ask[string](b, "document.body.innerText"))
	}
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.ID("chosen"))); err != nil {
		b.t.Fatalf("%s: %v", text, b.describe(err))
	}
}

// fill writes a text into a field, in the place of what is there.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	ask[chromedp.Void](b, fmt.Sprintf(`document.querySelector('[name=%q]').select()`, name))
	call(b, input.InsertText, input.InsertTextParams{Text: text})
}
