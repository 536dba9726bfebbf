// Package sparse keeps a log readable, and its disk free, while messages fail by the
// thousand, or one does each second for ever: of records that say the same it shows the
// first ones of each minute, and how many more there were.
package sparse

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// Span is how long records that say the same are counted together.
	Span = time.Minute

	// Burst is how many of those are shown.
	Burst = 10
)

// About is what a record says, without what it says of a single message. There must be few
// that differ.
type About struct {
	Text, Topic, Handler string
}

// Handler passes on all records, and knows how many of those that are logged with [Log] were
// shown.
type Handler struct {
	slog.Handler
	windows *windows
}

// New returns a logger that writes to the same place. [Flush] ends it.
func New(logger *slog.Logger) *slog.Logger {
	return slog.New(&Handler{logger.Handler(), &windows{open: map[About]*window{}}})
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.Handler.WithAttrs(attrs), h.windows}
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.Handler.WithGroup(name), h.windows}
}

// Log logs a record, unless there were too many about the same. Those are counted, and
// reported when their minute is over. A logger that is not from [New] shows all.
func Log(ctx context.Context, logger *slog.Logger, level slog.Level, about About, attrs ...any) {
	if !logger.Enabled(ctx, level) {
		return
	}
	if h, ok := logger.Handler().(*Handler); ok && !h.windows.admit(logger, level, about) {
		return
	}
	logger.Log(ctx, level, about.Text, attrs...)
}

// Flush reports what was left out so far. From then on logger shows all.
func Flush(logger *slog.Logger) {
	if h, ok := logger.Handler().(*Handler); ok {
		h.windows.flush()
	}
}

// windows are the minutes in which something was logged, one for each About.
type windows struct {
	mu      sync.Mutex
	open    map[About]*window
	flushed bool
}

type window struct {
	began   time.Time
	shown   int
	leftOut int
	level   slog.Level
	logger  *slog.Logger
	timer   *time.Timer // nil as long as nothing is left out
}

func (ws *windows) admit(logger *slog.Logger, level slog.Level, about About) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	now := time.Now()
	w := ws.open[about]
	if w == nil || w.timer == nil && now.Sub(w.began) >= Span {
		w = &window{began: now}
		ws.open[about] = w
	}
	w.logger, w.level = logger, max(level, w.level)
	if w.shown++; w.shown <= Burst || ws.flushed {
		return true
	}
	w.leftOut++
	if w.timer == nil {
		w.timer = time.AfterFunc(Span-now.Sub(w.began), func() {
			ws.mu.Lock()
			defer ws.mu.Unlock()
			ws.end(about, w)
		})
	}
	return false
}

// end reports what w has left out, if it has not been reported.
func (ws *windows) end(about About, w *window) {
	if ws.open[about] != w {
		return
	}
	delete(ws.open, about)
	if w.leftOut == 0 {
		return
	}
	w.timer.Stop()
	attrs := []any{"topic", about.Topic}
	if about.Handler != "" {
		attrs = append(attrs, "handler", about.Handler)
	}
	attrs = append(attrs, "messages", w.leftOut, "lasted", time.Since(w.began).Round(time.Millisecond).String())
	w.logger.Log(context.Background(), w.level, about.Text+": and more, which are left out here", attrs...)
}

func (ws *windows) flush() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	for about, w := range ws.open {
		ws.end(about, w)
	}
	ws.flushed = true
}
