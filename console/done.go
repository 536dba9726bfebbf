package console

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	// doneCookie is the cookie that has the result of the last change, for the page that a browser is then sent to: to load
	// that page again repeats no change.
	doneCookie = "ezq_done"

	doneFor   = 10 * time.Minute
	maxResult = 1000 // bytes
)

// remember has the browser keep the result of a change until it asks for the page behind a link.
func remember(w http.ResponseWriter, link, result string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // not Secure: the console may be served without TLS, on the machine itself
		Name: doneCookie, Value: base64.RawURLEncoding.EncodeToString([]byte(digest(link) + beginning(result, maxResult))),
		MaxAge: int(doneFor.Seconds()), HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// remembered returns the result that a browser has kept for the page behind a link.
func remembered(r *http.Request, link string) (result string, ok bool) {
	cookie, err := r.Cookie(doneCookie)
	if err != nil {
		return "", false
	}
	kept, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return "", false
	}
	result, ok = strings.CutPrefix(string(kept), digest(link))
	return beginning(result, maxResult), ok // whatever else may have written the cookie
}

func digest(link string) string {
	sum := sha256.Sum256([]byte(link))
	return string(sum[:])
}

// part is a part of a result: a text with a number.
type part struct {
	text string
	n    int
	left bool // it says how many are left as they were
}

// told returns the parts whose numbers are not 0, or none if all are, unless it has failed with err.
func told(err error, none string, parts ...part) (result, error) {
	var said []string
	changed := false
	for _, p := range parts {
		if p.n > 0 {
			said = append(said, fmt.Sprintf(p.text, p.n))
			changed = changed || !p.left
		}
	}
	if len(said) == 0 && err == nil {
		return result{none, false}, nil
	}
	return result{strings.Join(said, " "), changed}, err
}
