package ezqenv_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ezq-go/ezq/ezq/ezqenv"
)

// misplaced are connection settings with the password, in the forms that are written for the wrong variable.
func misplaced(secret string) []string {
	return []string{
		"postgres://u:" + secret + "@h/db", "//u:" + secret + "@h/db", "//" + secret + "@h/db", "u:" + secret + "@h:5432/db",
		"host=h user=u password=" + secret, "host=h user=u PASSWORD = '" + secret + "'", "u password=" + secret,
		"db?user=u&password=" + secret, "PGPASSWORD=" + secret, "Server=h;Uid=u;Pwd=" + secret, "password: " + secret,
		"postgres://u:" + secret + "h/db", "postgres://h/db?user=u&pasword=" + secret, "host=h user=u pass=" + secret, "host=h user=u:" + secret + " dbname=db",
		"user=u:" + secret, "h=1;s=" + secret, "mysql://" + secret,
	}
}

// names are the variables whose values are shown.
func names() []string {
	return []string{"EZQ_TOPIC", "EZQ_DEFAULT_QUEUE_NAME", "EZQ_GROUP", "EZQ_QUEUE_USERNAME", "EZQ_QUEUE_DATABASE"}
}

func TestRead_RefusesConnectionSettingsAsName(t *testing.T) {
	t.Parallel()
	for _, variable := range append(names(), "EZQ_QUEUE_HOST") {
		for _, value := range misplaced(password) {
			requireUnseen(t, variable, value)
		}
	}
	for _, user := range []string{"u:" + password, "u\n" + password} {
		requireUnseen(t, "EZQ_QUEUE_USERNAME", user)
	}
	requireUnseen(t, "EZQ_QUEUE_DATABASE", "db\n"+password)
}

func TestRead_AcceptsOtherNames(t *testing.T) {
	t.Parallel()
	for _, variable := range names() {
		for _, value := range []string{"orders", "Orders of 2026", "bestellungen/größe", "tenant-7.orders", "a@b", "who=me", "password", "//orders", "orders?"} {
			read(t, environment{variable: value})
		}
	}
	for _, variable := range []string{"EZQ_TOPIC", "EZQ_GROUP"} {
		read(t, environment{variable: "tenant:7:orders"})
	}
}

func TestRead_RefusesPasswordInUserOfURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"postgres://h/db?user=u:hunter2", "postgres://h/db?user=u%20password%3Dhunter2", "host=h user=u:hunter2 dbname=db",
		"postgres://h/db?user=u&dbname=u:hunter2@h", "postgres://h/host=h%20password=hunter2", "postgres://u@host=h&password=hunter2/db",
		"host=//u:hunter2@h dbname=db", "postgres://u@h/db\n?sslmode=disable&password=hunter2", "postgres://u@h/db%0a?password=hunter2",
	} {
		requireUnseen(t, "EZQ_DATABASE_URL", url)
		requireHidden(t, url)
	}
}

// A password may well consist of digits, or be hexadecimal.
func TestError_ShowsNoValue(t *testing.T) {
	t.Parallel()
	for variable, value := range map[string]string{
		"EZQ_LEASE": "34e6a92006e4bc9a8f3f3d2f", "EZQ_LOG_LEVEL": password, "EZQ_CONCURRENCY": "12345678", "EZQ_CONNECTIONS": "-123456",
		"EZQ_HANDLER_TIMEOUT": "12345678h", "EZQ_QUEUE_PORT": "123456", "EZQ_DATABASE_URL": password, "EZQ_QUEUE_HOST": password + "!",
	} {
		_, err := ezqenv.Read(environment{variable: value}.lookup)
		if text := fmt.Sprintf("%v %+v %#v", err, err, err); err == nil || strings.Contains(text, value) || strings.Contains(text, password) {
			t.Errorf("%s=%q: %s", variable, value, text)
		}
	}
}

// FuzzSettings_ShowNoConnectionSettings gives them, with anything around the password and behind it, to the variables of
// names, and to those of numbers.
func FuzzSettings_ShowNoConnectionSettings(f *testing.F) {
	for _, around := range [][2]string{{"", ""}, {"a:", ""}, {"", "@b"}, {"'", "'"}, {"/", "/"}, {" ", "\n"}, {"%40", "ß"}, {"\x00", "="}} {
		f.Add(around[0], around[1], "h:5432/db")
	}
	f.Fuzz(func(t *testing.T, before, after, rest string) {
		if strings.Contains(before+after+rest, "hunter") {
			t.Skip()
		}
		for _, variable := range append(names(), append(numeric(), "EZQ_QUEUE_HOST")...) {
			for _, value := range append(misplaced(before+password+after), "u:"+before+password+after+"@"+rest) {
				requireUnseen(t, variable, value)
			}
		}
	})
}
