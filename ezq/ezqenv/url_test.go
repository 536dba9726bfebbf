package ezqenv_test

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ezq-go/ezq/ezq/ezqenv"
)

// owner is what a program may keep settings in: fmt calls no methods of fields that are not
// exported.
type owner struct {
	settings ezqenv.Settings
	url      ezqenv.URL
	pointer  *ezqenv.URL
	list     []any
	byName   map[string]ezqenv.URL
}

// shown returns all that is shown of settings and err, whatever shows it.
func shown(settings ezqenv.Settings, err error) []string {
	url := settings.DatabaseURL
	mine := owner{settings, url, &url, []any{url, &url, settings}, map[string]ezqenv.URL{"x": url}}
	values := []any{settings, &settings, url, &url, mine, &mine, []any{mine}, err}
	var all []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%U", "%c", "%t", "%e", "%p", "%T"} {
		for _, value := range values {
			all = append(all, fmt.Sprintf(verb, value))
		}
	}
	var encoded bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&encoded, nil), slog.NewJSONHandler(&encoded, nil)} {
		slog.New(handler).Info("read", "all", values, "mine", mine, "url", url, "settings", settings, "error", err)
	}
	for _, value := range values {
		_ = json.NewEncoder(&encoded).Encode(value)
		_ = xml.NewEncoder(&encoded).Encode(value)
		_ = gob.NewEncoder(&encoded).Encode(value)
	}
	var failure strings.Builder // which looks into what is not exported
	assert.Equal(failures{&failure}, mine, owner{})
	return append(all, encoded.String(), failure.String())
}

type failures struct{ *strings.Builder }

func (f failures) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(f, format, args...) }

const password = "hunter2"

// requireHidden fails if anything shows the password of the URL, as it is or in hexadecimal.
func requireHidden(t *testing.T, url string) {
	t.Helper()
	settings, err := ezqenv.Read(environment{"EZQ_DATABASE_URL": url}.lookup)
	for _, text := range shown(settings, err) {
		text = strings.ToLower(text)
		for _, secret := range []string{password, fmt.Sprintf("%x", password), fmt.Sprintf("% x", password)} {
			if strings.Contains(text, secret) {
				t.Fatalf("%s is shown:\n%s", url, text)
			}
		}
	}
	if err == nil && settings.DatabaseURL.Reveal() != url {
		t.Fatalf("%s became %s", url, settings.DatabaseURL.Reveal())
	}
}

func TestSettings_PrintNoSecret(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://app:hunter2@db/shop", "postgres://app@db/shop?password=hunter2", "host=db user=app password=hunter2",
		"host=db user=app password='a b@hunter2'", "postgres://app:hunter2@[::1]:1/x?options=-c%20foo%3Dhunter2",
		"postgres://app:hunter2@db:port/shop", "postgres://app:hunter2@[::1/x", "mysql://app:hunter2@db/x", // which cannot be parsed
		// What should have been percent-encoded.
		"postgres://app:a@hunter2@db:1/x", "postgres://app:a@b@hunter2@db:1/x", "postgres://app:a/hunter2@db/x", "postgres://app:1/hunter2@db/x",
		"postgres://app:1#hunter2@db/x", "postgres://app:1?hunter2@db/x", "postgres://app:a@hunter2,b@db/x", "postgres://app:a@hunter2:1,b@db:2/x",
		"postgres://app:a@b,hunter2@db,db2/x", "postgres://app:1/a@hunter2@db/x?sslmode=disable",
	} {
		requireHidden(t, url)
	}
	settings := read(t, environment{"EZQ_DATABASE_URL": "postgres://app:a@hunter2@db/shop?sslmode=disable"})
	if got := settings.DatabaseURL.String(); got != "postgres://app@db:5432/shop" {
		t.Errorf("it is shown as %s", got)
	}
}

func TestDatabaseURL_WhenInvalidIsRefusedAndHidden(t *testing.T) {
	t.Parallel()
	const rest = "app:hunter2@db:5432/shop?sslmode=disable"
	for _, url := range []string{
		"postgress://" + rest, "pgsql://" + rest, "Postgres://" + rest, "jdbc:postgresql://" + rest, "postgres:/" + rest, rest,
		`"postgres://` + rest + `"`, "'postgres://" + rest + "'", "DATABASE_URL=postgres://" + rest,
	} {
		_, err := ezqenv.Read(environment{"EZQ_DATABASE_URL": url, "EZQ_LEASE": "soon"}.lookup)
		if text := fmt.Sprint(err); !strings.Contains(text, "EZQ_DATABASE_URL is not a database URL") || !strings.Contains(text, "EZQ_LEASE") {
			t.Errorf("%s: %v", url, err)
		}
		requireHidden(t, url)
	}
}

func TestRead_NamesWrongURLParameterWithoutValue(t *testing.T) {
	t.Parallel()
	for parameter, want := range map[string]string{
		"sslmode=hunter2": "its parameter sslmode has no valid value",
		"sslmode=verify-full&sslrootcert=/no/hunter2": "the file of its parameter sslrootcert cannot be read: no such file or directory",
	} {
		url := "postgres://app:hunter2@db/shop?" + parameter
		_, err := ezqenv.Read(environment{"EZQ_DATABASE_URL": url}.lookup)
		if err == nil || !strings.Contains(err.Error(), "EZQ_DATABASE_URL cannot be used: "+want) {
			t.Errorf("%s: %v", parameter, err)
		}
		requireHidden(t, url)
	}
}

func TestDatabaseURL_HidesUnencodedPassword(t *testing.T) {
	t.Parallel()
	around := []string{""}
	for _, a := range "@:/,#?%[]&;1b" {
		for _, b := range " @:/,#?%[]&;1b" {
			around = append(around, strings.TrimSpace(string([]rune{a, b})))
		}
	}
	for _, before := range around {
		for _, after := range around {
			url := "postgres://app:" + before + password + after + "@db/shop"
			settings, err := ezqenv.Read(environment{"EZQ_DATABASE_URL": url}.lookup)
			if text := fmt.Sprint(settings, err); strings.Contains(text, password) {
				t.Errorf("%s is shown: %s", url, text)
			}
		}
	}
}

// FuzzDatabaseURL_PrintsNoSecret has a password with anything before and after what is looked for.
// An = is left out: what is behind "?user=" is no password any more, by any reading.
func FuzzDatabaseURL_PrintsNoSecret(f *testing.F) {
	for _, around := range [][2]string{{"", ""}, {"a@", ""}, {"", "@b"}, {"@", ",b"}, {"1/", "/x"}, {"@b,", "@"}, {"[", "]"}, {"%40", "%2f"}, {"1,2@", ":3"}} {
		f.Add(around[0], around[1], "db:1", "shop")
	}
	f.Fuzz(func(t *testing.T, before, after, host, database string) {
		if strings.ContainsAny(before+after+host+database, "='\\ \t\n\r\f\v") || strings.Contains(before+after+host+database, "hunter") {
			t.Skip()
		}
		requireHidden(t, "postgres://app:"+before+password+after+"@"+host+"/"+database)
		requireHidden(t, "host=db user=app password='"+before+password+after+"'")
		for _, scheme := range []string{"postgress://", "pgsql://", "Postgres://", "jdbc:postgresql://", "postgres:/", "", `"postgres://`, "DATABASE_URL=postgres://", "user=postgres://"} {
			requireHidden(t, scheme+"app:"+before+password+after+"@"+host+"/"+database+"?sslmode=disable")
		}
	})
}
