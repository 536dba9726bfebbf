package console

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// Config adjusts a [Console]. The zero value shows counts alone, and changes nothing.
type Config struct {
	// Prefix is the path below which the console is mounted, as in "/admin/ezq". A request may have it, or have lost it
	// to [http.StripPrefix]: all links are relative. Defaults to "".
	Prefix string

	// Title says which system this is, as in "production". It stands on each page.
	Title string

	// Allow returns what the sender of a request may see and do beside counts. It is called for each request, before
	// anything is read or changed. Nil allows nothing.
	Allow func(*http.Request) Rights

	// User returns who has sent a request: for the log, and for what keeps who has changed it. Nil, and an empty
	// name, stand for "console".
	User func(*http.Request) string

	// Timeout is how long one page may take. What was found by then is shown, with a note. Defaults to 10 seconds.
	Timeout time.Duration

	// Interval is how often the state of all queues is read, once for all viewers, while there are any. Without viewers it is
	// read once a minute, for the lines of the last hour. If reading takes long, it is read less often. Defaults to 5 seconds; the least is 1 second.
	Interval time.Duration

	// Logger receives a record of each change. Defaults to [slog.Default].
	Logger *slog.Logger
}

// Rights are what the sender of a request may see and do. The zero value is counts alone.
type Rights struct {
	Messages bool // see single messages: IDs, names of events, times, states
	Payloads bool // see what they say: payloads, headers, keys, and the errors with which they failed
	Doctor   bool // see what endangers the queues, with names of sessions and roles, and which programs are connected
	Redrive  bool // move dead letters back
	Edit     bool // change the payloads of dead letters; it needs Payloads too
	Purge    bool // delete dead letters
	Pause    bool // pause and resume topics and schedules
	Cancel   bool // delete messages that wait or are being handled; it needs Messages too, since it tells which there are
}

// Everything returns all rights.
func Everything() Rights {
	return Rights{Messages: true, Payloads: true, Doctor: true, Redrive: true, Edit: true, Purge: true, Pause: true, Cancel: true}
}

// ReadOnly returns the rights to see all and to change nothing.
func ReadOnly() Rights { return Rights{Messages: true, Payloads: true, Doctor: true} }

// normal returns r without rights that make no sense alone.
func (r Rights) normal() Rights {
	r.Payloads = r.Payloads && r.Messages
	r.Edit = r.Edit && r.Payloads
	r.Cancel = r.Cancel && r.Messages
	return r
}

const (
	minInterval = time.Second
	maxInterval = time.Minute
)

func (c *Config) withDefaults() (Config, error) {
	var config Config
	if c != nil {
		config = *c
	}
	config.Timeout = cmp.Or(config.Timeout, 10*time.Second)
	config.Interval = cmp.Or(config.Interval, 5*time.Second)
	config.Logger = cmp.Or(config.Logger, slog.Default())
	config.Prefix = strings.TrimRight(config.Prefix, "/")
	switch {
	case config.Timeout < 0:
		return config, fmt.Errorf("console: Config.Timeout is %v: use a positive duration, or 0 for the default", config.Timeout)
	case config.Interval < minInterval || config.Interval > maxInterval:
		return config, fmt.Errorf("console: Config.Interval is %v: use %v to %v, or 0 for the default", config.Interval, minInterval, maxInterval)
	case config.Prefix != "" && !strings.HasPrefix(config.Prefix, "/"):
		return config, errors.New("console: Config.Prefix does not begin with a slash: write it as in /admin/ezq")
	}
	return config, nil
}
