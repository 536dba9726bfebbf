package ezqenv

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/ezq"
	"github.com/ezq-go/ezq/internal/databaseurl"
)

// Error is a variable whose value makes no sense. It does not have the value, which may be
// a secret that was given to the wrong variable.
type Error struct {
	Variable string
	Problem  string // as in "is not a number"
	Remedy   string // what to set it to
}

// Error names the variable, what is wrong with its value, and what to write instead.
func (e *Error) Error() string {
	return fmt.Sprintf("ezqenv: %s %s: set it to %s", e.Variable, e.Problem, e.Remedy)
}

// Read reads the settings through lookup, which is [os.LookupEnv] in a service, or a
// map in a test. An error is about all variables that are wrong: it joins an [*Error]
// for each.
func Read(lookup func(variable string) (value string, ok bool)) (Settings, error) {
	r := &reader{lookup: lookup}
	s := Settings{
		DatabaseURL: r.readURL(),
		Topic:       r.topic("topic", "EZQ_TOPIC", "EZQ_DEFAULT_QUEUE_NAME"),
		Group:       r.topic("group", "EZQ_GROUP"),
		Concurrency: r.number(1, maxConcurrency, "EZQ_CONCURRENCY", "EZQ_CONSUMER_CONCURRENT_HANDLERS"),
		MaxConns:    r.number(2, math.MaxInt32, "EZQ_CONNECTIONS"),

		HandlerTimeout: r.duration(time.Millisecond, "EZQ_HANDLER_TIMEOUT", "EZQ_CONSUMER_TIMEOUT"),
		DrainTimeout:   r.duration(time.Millisecond, "EZQ_DRAIN_TIMEOUT", "EZQ_CONSUMER_SHUTDOWN_GRACE_PERIOD"),
		PollInterval:   r.duration(time.Millisecond, "EZQ_POLL_INTERVAL", "EZQ_CONSUMER_POLL_INTERVAL"),
		Lease:          r.duration(time.Second, "EZQ_LEASE"),
		LogLevel:       r.level("EZQ_LOG_LEVEL"),
	}
	s.Topic = cmp.Or(s.Topic, ezq.DefaultTopic)
	if err := errors.Join(r.errs...); err != nil {
		return Settings{}, err
	}
	return s, nil
}

type reader struct {
	lookup func(string) (string, bool)
	errs   []error
}

func (r *reader) fail(variable, problem, remedy string) {
	r.errs = append(r.errs, &Error{Variable: variable, Problem: problem, Remedy: remedy})
}

// find returns the value of a variable. An empty one is not set.
func (r *reader) find(variable string) (value string, ok bool) {
	value, ok = r.lookup(variable)
	value = strings.TrimSpace(value)
	if !ok || value == "" {
		return "", false
	}
	return value, true
}

// first returns the first variable that is set.
func (r *reader) first(variables []string) (variable, value string) {
	for _, variable := range variables {
		if value, ok := r.find(variable); ok {
			return variable, value
		}
	}
	return "", ""
}

const nameAlone = "the name alone; EZQ_DATABASE_URL is for connection settings"

// topic refuses connection settings in the place of a name: names are shown, and these may have a password.
func (r *reader) topic(what string, variables ...string) string {
	variable, value := r.first(variables)
	if variable == "" {
		return ""
	}
	if databaseurl.HoldsSettings(value) {
		r.fail(variable, "is not the name of a "+what, nameAlone)
	} else if _, err := pgmq.QueueName(value); err != nil {
		r.fail(variable, "cannot be the name of a queue", "at most 1024 bytes of UTF-8 without NUL")
	}
	return value
}

// maxConcurrency is the largest Concurrency that [ezq.Config] takes.
const maxConcurrency = 1 << 20

func (r *reader) number(least, most int, variables ...string) int {
	variable, value := r.first(variables)
	if variable == "" {
		return 0
	}
	remedy := fmt.Sprintf("a number from %d to %d", least, most)
	n, err := strconv.Atoi(value)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		r.fail(variable, "is not a whole number", remedy)
	case err != nil || n < least || n > most:
		r.fail(variable, "is out of range", remedy)
	}
	return n
}

// maxDuration is longer than any useful wait.
const maxDuration = 365 * 24 * time.Hour

func (r *reader) duration(least time.Duration, variables ...string) time.Duration {
	variable, value := r.first(variables)
	if variable == "" {
		return 0
	}
	remedy := fmt.Sprintf(`at least %v and at most %v, as in "30s", or a number of seconds`, least, maxDuration)
	d, err := parseDuration(value)
	switch {
	case err != nil:
		r.fail(variable, "is not a length of time", remedy)
	case d < least || d > maxDuration:
		r.fail(variable, "is out of range", remedy)
	}
	return d
}

func parseDuration(text string) (time.Duration, error) {
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return time.ParseDuration(text)
	}
	if !(math.Abs(seconds) <= 2*maxDuration.Seconds()) { // nor NaN
		return 2 * maxDuration, nil
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

func (r *reader) level(variable string) slog.Level {
	value, ok := r.find(variable)
	if !ok {
		return slog.LevelInfo
	}
	switch strings.ToUpper(value) { // Python's names
	case "WARNING":
		return slog.LevelWarn
	case "CRITICAL":
		return slog.LevelError
	}
	var level slog.Level
	if level.UnmarshalText([]byte(value)) != nil {
		r.fail(variable, "is not a level", "debug, info, warn or error")
	}
	return level
}

// readURL reads EZQ_DATABASE_URL, or else what the Python library reads.
func (r *reader) readURL() URL {
	const variable = "EZQ_DATABASE_URL"
	if text, ok := r.find(variable); ok {
		return r.parseURL(variable, text)
	}
	host, a := r.find("EZQ_QUEUE_HOST")
	port, b := r.find("EZQ_QUEUE_PORT")
	user, c := r.find("EZQ_QUEUE_USERNAME")
	password, d := r.find("EZQ_QUEUE_PASSWORD")
	database, e := r.find("EZQ_QUEUE_DATABASE")
	if !a && !b && !c && !d && !e {
		return URL{}
	}
	const byDefault = "postgres"
	host, port = cmp.Or(host, "localhost"), cmp.Or(port, "5432")
	before := len(r.errs)
	r.checkParts(host, port, user, database)
	if len(r.errs) > before {
		return URL{}
	}
	made := url.URL{
		Scheme: "postgres",
		User:   url.UserPassword(cmp.Or(user, byDefault), cmp.Or(password, byDefault)),
		Host:   net.JoinHostPort(host, port),
		Path:   "/" + cmp.Or(database, byDefault),
	}
	return r.parseURL("EZQ_QUEUE_HOST and the like", made.String())
}

// checkParts finds the variable that is to blame, where the URL made of them would only be none,
// or would be another one.
func (r *reader) checkParts(host, port, user, database string) {
	if !isHost(host) {
		r.fail("EZQ_QUEUE_HOST", "is not a host",
			"a name or an address alone, as in db.example.com: EZQ_QUEUE_PORT, EZQ_QUEUE_USERNAME, EZQ_QUEUE_PASSWORD and EZQ_QUEUE_DATABASE have the rest")
	}
	if err := checkPort(port); err != nil {
		r.fail("EZQ_QUEUE_PORT", err.Error(), "a number from 1 to 65535")
	}
	if !databaseurl.IsUser(user) {
		r.fail("EZQ_QUEUE_USERNAME", "is not the name of a role", nameAlone)
	}
	if !databaseurl.IsDatabase(database) {
		r.fail("EZQ_QUEUE_DATABASE", "is not the name of a database", nameAlone)
	}
}

// parseURL returns text as a URL. Neither that nor pgx's error is in an error of ours: both can
// contain the password.
func (r *reader) parseURL(variable, text string) URL {
	config, err := pgconn.ParseConfig(text)
	if err == nil && databaseurl.IsOne(config) {
		return newURL(text, config)
	}
	problem := "is not a database URL"
	if fault := databaseurl.Fault(err); fault != "" {
		problem = "cannot be used: " + fault
	}
	r.fail(variable, problem, "postgres://user:password@host:5432/database?sslmode=verify-full")
	return URL{}
}
