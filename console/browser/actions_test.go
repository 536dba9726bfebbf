package browser

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/console"
)

// actionsOf are what an operator does, with the mouse, and what has become of it.
func actionsOf() map[string]func(b *tab, c client) {
	return map[string]func(b *tab, c client){
		"a topic is paused and resumed": func(b *tab, c client) {
			b.visit("/queue?topic=orders&live=off")
			b.follow("Pause the topic…")
			b.fill("why", "the bank is moving")
			b.fill("for", "90m")
			b.follow("Pause")
			b.shows("It is paused until", "the bank is moving, by ada")
			if held := pauses(b.t, c); len(held) != 1 || held[0].By != "ada" || held[0].Reason != "the bank is moving" {
				b.t.Errorf("the pauses are %v", held)
			}
			b.follow("Go back")
			b.visit("/queue?topic=orders&live=off")
			b.shows("the bank is moving")
			b.follow("Resume the topic…")
			b.follow("Resume")
			b.shows("It is resumed.")
			if held := pauses(b.t, c); len(held) != 0 {
				b.t.Errorf("the pauses are %v", held)
			}
		},
		"a schedule is paused and resumed": func(b *tab, _ client) {
			b.visit("/schedules")
			b.follow("Pause…")
			b.fill("why", "the month is closed")
			b.follow("Pause")
			b.shows("It is paused until it is resumed")
			b.follow("Go back")
			b.shows("the month is closed", "by ada")
			b.follow("Resume…")
			b.follow("Resume")
			b.follow("Go back")
			b.shows("runs")
		},
		"one dead letter is redriven": func(b *tab, c client) {
			b.visit("/dead?topic=" + letters)
			b.follow("dead-1")
			b.follow("Redrive…")
			b.follow("Redrive")
			b.shows("1 moved back.")
			b.expect(c, "dead-1", "waiting")
			b.expect(c, "dead-2", "dead")
		},
		"those of one reason are redriven": func(b *tab, c client) {
			b.visit("/dead?topic=" + letters)
			b.follow("there is no address")
			b.follow("Redrive these…")
			b.follow("Redrive")
			b.shows("1 moved back.")
			b.expect(c, "dead-1", "dead")
			b.expect(c, "dead-2", "waiting")
		},
		"all are deleted": func(b *tab, c client) {
			b.visit("/dead?topic=" + letters)
			b.follow("Delete all…")
			b.shows("2 are there now", "What comes later stays.", "This cannot be undone.")
			b.follow("Leave it")
			b.expect(c, "dead-1", "dead")
			b.follow("Delete all…")
			b.follow("Delete")
			b.shows("2 deleted.")
			ask[chromedp.Void](b, "location.reload()")
			b.await("the page is there again", `document.body.innerText.includes("2 deleted.")`)
			b.expect(c, "dead-1", "")
		},
		"a payload is repaired": func(b *tab, c client) {
			b.visit("/dead?topic=" + letters)
			b.follow("dead-1")
			b.follow("Change the payload")
			b.fill("payload", `{"_type": "OrderPlaced", "order": 9, "item": "Sencha"}`)
			b.follow("Change…")
			b.follow("Change")
			b.shows("It is changed")
			found := lettersOf(b.t, c, backend.DeadLetterSelection{Field: "item", Equals: "Sencha"})
			if len(found) != 1 || found[0].ID != "dead-1" || found[0].Metadata[backend.EditedBy] != "ada" {
				b.t.Errorf("the dead letters are %v", found)
			}
		},
		"an event that waits is cancelled": func(b *tab, c client) {
			b.visit("/event?id=order-4")
			b.follow("Cancel, if it waits…")
			b.follow("Cancel the event")
			b.shows("1 deleted that waited")
			b.expect(c, "order-4", "")
			b.expect(c, "order-1", "waiting")
		},
	}
}

func (b *tab) expect(c client, id, want string) {
	b.t.Helper()
	if got := stateOf(b.t, c, id); got != want {
		b.t.Errorf("%s is %q and not %q", id, got, want)
	}
}

func TestActions_DoWhatTheySay(t *testing.T) {
	t.Parallel()
	for backend, open := range map[string]func(*testing.T) client{"memory": onMemory, "PGMQ": onPGMQ} {
		for name, act := range actionsOf() {
			t.Run("on "+backend+", "+name, func(t *testing.T) {
				t.Parallel()
				c := open(t)
				act(newTab(t, serve(t, c, console.Everything())), c)
			})
		}
	}
}

// From the first page on, with nothing but the keyboard.
func TestKeyboard_IsEnoughToPauseTopic(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	b := newTab(t, serve(t, c, console.Everything()))
	b.visit("/?live=off")
	b.tabTo("orders")
	b.press("\r")
	b.await("the page of the queue is there", `location.pathname === "/queue"`)
	b.tabTo("Pause the topic…")
	b.press("\r")
	b.await("it asks", `location.pathname === "/confirm"`)
	b.press("\t") // to the field
	for range 20 {
		if ask[string](b, "document.activeElement.name || ''") == "why" {
			break
		}
		b.press("\t")
	}
	b.press("the bank is moving\r")
	b.await("it is done", `location.pathname === "/done"`)
	if held := pauses(t, c); len(held) != 1 {
		t.Errorf("the pauses are %v", held)
	}
}

func (b *tab) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// tabTo presses Tab until something with the text has the focus.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	for range 60 {
		b.press("\t")
		if ask[string](b, "document.activeElement.textContent.trim()") == text {
			return
		}
	}
	b.t.Fatalf("Tab does not reach %q", text)
}

// posts are all that could change something.
func posts(c client, t *testing.T) []string {
	t.Helper()
	letter := lettersOf(t, c, backend.DeadLetterSelection{ID: "dead-1"})[0]
	return []string{
		"action=pause&topic=orders&why=no", "action=resume&topic=orders",
		"action=pause-schedule&schedule=nightly&why=no", "action=resume-schedule&schedule=nightly",
		"action=redrive&until=2100-01-01T00:00:00Z&topic=" + letters, "action=purge&until=2100-01-01T00:00:00Z&topic=" + letters,
		fmt.Sprintf("action=edit&topic=%s&row=%d&version=%s&payload=1", letters, letter.Row, letter.Version()),
		"action=cancel&topic=orders&id=order-1", "action=stop&topic=orders&id=order-1",
	}
}

// unchanged fails the test if something is not as it was.
func unchanged(t *testing.T, c client) {
	t.Helper()
	for id, want := range map[string]string{"order-1": "waiting", "dead-1": "dead", "dead-2": "dead"} {
		if got := stateOf(t, c, id); got != want {
			t.Errorf("%s is %q", id, got)
		}
	}
	if len(pauses(t, c)) > 0 || lettersOf(t, c, backend.DeadLetterSelection{ID: "dead-1"})[0].Metadata[backend.EditedBy] != "" {
		t.Error("something was changed")
	}
	known, err := c.Schedules().List(t.Context())
	check(t, err)
	if known[0].Paused != nil {
		t.Error("the schedule is paused")
	}
}

func TestReadOnly_RefusesEveryPost(t *testing.T) {
	t.Parallel()
	for name, rights := range map[string]console.Rights{"what may be seen": console.ReadOnly(), "counts alone": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := onMemory(t)
			b := openTab(t, serve(t, c, rights)) // the browser complains of each refusal
			b.visit("/")
			for _, post := range posts(c, t) {
				status := ask[int](b, fmt.Sprintf(`fetch("do", {method: "POST", body: new URLSearchParams(%q)}).then(r => r.status)`, post))
				if status != 403 {
					t.Errorf("%s is answered with %d", post, status)
				}
			}
			unchanged(t, c)
		})
	}
}

func TestZeroRights_ShowCountsAlone(t *testing.T) {
	t.Parallel()
	c := onMemory(t)
	b := openTab(t, serve(t, c, console.Rights{})) // the browser complains of each refusal
	for path := range pagesOf(t, c) {
		b.visit(path)
		page := ask[string](b, "document.documentElement.outerHTML")
		for _, secret := range []string{"Assam", "Gyokuro", "expired", "no address", `href="confirm`} {
			if strings.Contains(page, secret) {
				t.Errorf("%s shows %q", path, secret)
			}
		}
	}
}
