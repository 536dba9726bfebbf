package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"

	"github.com/ezq-go/ezq/console"
)

// consolePath is where the console is.
const consolePath = "/console"

// operators are the users of the console, by their names.
type operators map[string]operator

type operator struct {
	password [sha256.Size]byte // its digest: all of them are of one length
	rights   console.Rights
}

// parseOperators reads users as in "ada:secret,alan:other:read". One with read behind the password changes nothing.
func parseOperators(text string) (operators, error) {
	all := operators{}
	if text == "" {
		return all, nil
	}
	for one := range strings.SplitSeq(text, ",") {
		fields := strings.Split(one, ":")
		if len(fields) < 2 || len(fields) > 3 || fields[0] == "" || fields[1] == "" || len(fields) == 3 && fields[2] != "read" {
			return nil, errors.New(`EZQ_CONSOLE_USERS cannot be read: write it as in "ada:secret,alan:other:read"`) // and not what it is
		}
		rights := console.Everything()
		if len(fields) == 3 {
			rights = console.ReadOnly()
		}
		all[fields[0]] = operator{sha256.Sum256([]byte(fields[1])), rights}
	}
	return all, nil
}

// only lets operators through, with the name and the password of HTTP's basic authentication.
func (all operators) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, password, _ := r.BasicAuth()
		one, known := all[name] // an unknown one is compared as well, and so takes as long
		digest := sha256.Sum256([]byte(password))
		if same := subtle.ConstantTimeCompare(digest[:], one.password[:]) == 1; !same || !known {
			w.Header().Set("WWW-Authenticate", `Basic realm="console", charset="UTF-8"`)
			http.Error(w, "the console is for operators", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// rights returns what a request may do that only has let through.
func (all operators) rights(r *http.Request) console.Rights { return all[operatorOf(r)].rights }

// operatorOf returns whose request it is.
func operatorOf(r *http.Request) string {
	name, _, _ := r.BasicAuth()
	return name
}
