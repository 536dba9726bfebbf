package ezq

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// peek returns the name of the event in wire: the string that the top-level
// member _type holds. It may stand anywhere, since jsonb orders members anew. Of
// several the last counts, as it does for jsonb, Python and encoding/json.
//
// ok is false if wire names no event, and if wire is not one JSON object as
// encoding/json knows it. The name may be a part of wire.
func peek(wire []byte) (name []byte, ok bool) {
	var value []byte
	wellFormed := scanObject(wire, func(key, v []byte) {
		if isTypeKey(key) {
			value = v
		}
	})
	if !wellFormed || len(value) == 0 || value[0] != '"' {
		return nil, false
	}
	name = unquoted(value)
	return name, len(name) > 0
}

// isTypeKey reports whether the JSON string key reads _type.
func isTypeKey(key []byte) bool {
	if string(key) == `"`+typeKey+`"` {
		return true
	}
	const longest = len(`"\u005f\u0074\u0079\u0070\u0065"`)
	return len(key) <= longest && bytes.IndexByte(key, '\\') >= 0 && string(unquoted(key)) == typeKey
}

// unquoted returns what the well-formed JSON string quoted says.
func unquoted(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // cannot fail: the string is well-formed
	return []byte(s)
}

// What follows scans JSON text without building anything from it. Each function
// takes the position where its subject begins and returns the position after
// it, or malformed.

const (
	malformed = -1
	deepest   = 10_000 // as in encoding/json
)

// scanObject calls visit with the members of the JSON object that text
// consists of: keys and values as they are written there. It reports whether
// text is well-formed; if not, visit has seen a part.
func scanObject(text []byte, visit func(key, value []byte)) (wellFormed bool) {
	at := skipSpace(text, 0)
	if at == len(text) || text[at] != '{' {
		return false
	}
	at = skipObject(text, at, 1, visit)
	return at != malformed && skipSpace(text, at) == len(text)
}

func skipValue(text []byte, at, depth int) int {
	if at == len(text) {
		return malformed
	}
	switch text[at] {
	case '"':
		return skipString(text, at)
	case '{':
		return skipObject(text, at, depth+1, nil)
	case '[':
		return skipArray(text, at, depth+1)
	case 't':
		return skipLiteral(text, at, "true")
	case 'f':
		return skipLiteral(text, at, "false")
	case 'n':
		return skipLiteral(text, at, "null")
	}
	return skipNumber(text, at)
}

func skipObject(text []byte, at, depth int, visit func(key, value []byte)) int {
	if depth > deepest {
		return malformed
	}
	at = skipSpace(text, at+1)
	if has(text, at, '}') {
		return at + 1
	}
	for {
		if !has(text, at, '"') {
			return malformed
		}
		keyAt := at
		if at = skipString(text, at); at == malformed {
			return malformed
		}
		key := text[keyAt:at]
		if at = skipSpace(text, at); !has(text, at, ':') {
			return malformed
		}
		valueAt := skipSpace(text, at+1)
		if at = skipValue(text, valueAt, depth); at == malformed {
			return malformed
		}
		if visit != nil {
			visit(key, text[valueAt:at])
		}
		at = skipSpace(text, at)
		if has(text, at, '}') {
			return at + 1
		}
		if !has(text, at, ',') {
			return malformed
		}
		at = skipSpace(text, at+1)
	}
}

func skipArray(text []byte, at, depth int) int {
	if depth > deepest {
		return malformed
	}
	at = skipSpace(text, at+1)
	if has(text, at, ']') {
		return at + 1
	}
	for {
		if at = skipValue(text, at, depth); at == malformed {
			return malformed
		}
		at = skipSpace(text, at)
		if has(text, at, ']') {
			return at + 1
		}
		if !has(text, at, ',') {
			return malformed
		}
		at = skipSpace(text, at+1)
	}
}

func skipString(text []byte, at int) int {
	for at++; at < len(text); at++ {
		switch c := text[at]; {
		case c == '"':
			return at + 1
		case c == '\\':
			if at = skipEscape(text, at); at == malformed {
				return malformed
			}
		case c < ' ':
			return malformed
		}
	}
	return malformed
}

// skipEscape differs from the others: it returns the position of the last
// character of the escape.
func skipEscape(text []byte, at int) int {
	at++
	if at == len(text) {
		return malformed
	}
	if text[at] != 'u' {
		if bytes.IndexByte([]byte(`"\/bfnrt`), text[at]) < 0 {
			return malformed
		}
		return at
	}
	for range 4 {
		at++
		if at == len(text) || !isHex(text[at]) {
			return malformed
		}
	}
	return at
}

func skipNumber(text []byte, at int) int {
	if has(text, at, '-') {
		at++
	}
	switch {
	case has(text, at, '0'):
		at++
	default:
		if at = skipDigits(text, at); at == malformed {
			return malformed
		}
	}
	if has(text, at, '.') {
		if at = skipDigits(text, at+1); at == malformed {
			return malformed
		}
	}
	if has(text, at, 'e') || has(text, at, 'E') {
		at++
		if has(text, at, '+') || has(text, at, '-') {
			at++
		}
		return skipDigits(text, at)
	}
	return at
}

// skipDigits wants one digit at least.
func skipDigits(text []byte, at int) int {
	start := at
	for at < len(text) && text[at] >= '0' && text[at] <= '9' {
		at++
	}
	if at == start {
		return malformed
	}
	return at
}

func skipLiteral(text []byte, at int, literal string) int {
	if !bytes.HasPrefix(text[at:], []byte(literal)) {
		return malformed
	}
	return at + len(literal)
}

func skipSpace(text []byte, at int) int {
	for at < len(text) && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r') {
		at++
	}
	return at
}

func has(text []byte, at int, c byte) bool { return at < len(text) && text[at] == c }

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
