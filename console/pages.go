package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	//go:embed templates/*.html
	templates embed.FS
	//go:embed assets/*
	assets embed.FS
)

// pages are the templates of all pages.
type pages struct{ all *template.Template }

func newPages() (*pages, error) {
	all := template.New("")
	all.Funcs(template.FuncMap{
		"ago": ago, "age": age, "overdue": overdue, "stamp": stamp, "datetime": datetime, "count": count, "visible": visible, "body": body, "link": link, "spark": spark, "rate": rate,
		"render": func(name string, data any) (template.HTML, error) {
			var text bytes.Buffer
			err := all.ExecuteTemplate(&text, name, data)
			return template.HTML(text.String()), err //nolint:gosec // what a template has written is escaped
		},
	})
	_, err := all.ParseFS(templates, "templates/*.html")
	return &pages{all}, err
}

// asset serves an embedded file.
func asset(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		text, err := assets.ReadFile("assets/" + name)
		if err != nil {
			http.Error(w, "there is no such file", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set("Cache-Control", "no-cache")
		_, _ = w.Write(text) // or the browser is gone
	}
}

// age returns a duration for people, in one unit or two.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// ago says how long ago a time was, or in how long it will be.
func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	if d := time.Since(t); d >= 0 {
		return age(d) + " ago"
	}
	return "in " + age(time.Until(t))
}

// stamp returns a time that a machine reads, too.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// datetime returns the attribute of a time, for programs that read pages.
func datetime(t time.Time) template.HTMLAttr {
	if t.IsZero() {
		return ""
	}
	return template.HTMLAttr(` datetime="` + t.UTC().Format(time.RFC3339) + `"`) //nolint:gosec // a time needs no escaping
}

// count returns a number that is counted up to a limit.
func count(n int, capped bool) string {
	text := grouped(int64(n))
	if capped {
		return text + "+"
	}
	return text
}

// grouped returns a number with thin spaces between thousands.
func grouped(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// rate returns how many messages come or go in a minute.
func rate(perMinute float64) string {
	switch {
	case perMinute < 0:
		return "–"
	case perMinute == 0:
		return "0"
	case perMinute < 10:
		return strconv.FormatFloat(perMinute, 'f', 1, 64)
	}
	return grouped(int64(perMinute))
}

// visible returns text in which nothing is hidden, nor changes the direction of what stands beside it.
func visible(text string) string {
	var out strings.Builder
	for _, c := range text {
		if isHidden(c) {
			fmt.Fprintf(&out, "\\u{%X}", c)
		} else {
			out.WriteRune(c)
		}
	}
	return out.String()
}

// isHidden reports whether a letter cannot be seen, or changes the direction of others.
func isHidden(c rune) bool { return c != '\n' && c != '\t' && c != ' ' && !unicode.IsPrint(c) }

// maxShown is how many bytes of a payload are shown.
const maxShown = 16 << 10

// shown is a payload as it is shown.
type shown struct {
	Text string
	Note string // what is not shown
}

// body returns a payload, or what is known of it if it was left out. Numbers in JSON stay as they are written.
func body(payload []byte, size int) shown {
	switch {
	case payload == nil && size > 0:
		return shown{Note: fmt.Sprintf("The payload has %s bytes, and is not shown.", grouped(int64(size)))}
	case len(payload) == 0:
		return shown{Note: "The payload is empty."}
	case !utf8.Valid(payload):
		return cut(fmt.Sprintf("% x", payload[:min(len(payload), maxShown/3)]), len(payload), "The payload is no text. These are its bytes.")
	}
	var pretty bytes.Buffer
	if len(payload) <= maxShown && json.Indent(&pretty, payload, "", "  ") == nil && pretty.Len() <= 8*maxShown {
		return shown{Text: visible(pretty.String())}
	}
	text := string(payload[:min(len(payload), maxShown)])
	return cut(visible(strings.ToValidUTF8(text, "")), len(payload), "")
}

func cut(text string, size int, note string) shown {
	if size > maxShown {
		note = strings.TrimSpace(fmt.Sprintf("%s Only the beginning of %s bytes is shown.", note, grouped(int64(size))))
	}
	return shown{text, note}
}

// beginning returns a text up to a number of bytes, and no half of a letter.
func beginning(text string, most int) string {
	for len(text) > most {
		_, size := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-size]
	}
	return text
}
