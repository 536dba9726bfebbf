package ezq

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"github.com/ezq-go/ezq/internal/jsonscan"
)

// peek returns the name of the event in wire: the string that the top-level
// member _type holds. It may stand anywhere, since jsonb orders members anew. Of
// several the last counts, as it does for jsonb, Python and encoding/json.
//
// ok is false if wire names no event, and if wire is not one JSON object as
// encoding/json knows it. The name may be a part of wire.
func peek(wire []byte) (name []byte, ok bool) {
	var value []byte
	wellFormed := eachMember(wire, func(key, v []byte) {
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

// eachMember calls visit with the members of the JSON object that text consists of,
// as they are written. It reports whether text is well-formed JSON; if not, visit
// has seen a part.
func eachMember(text []byte, visit func(key, value []byte)) (wellFormed bool) {
	const deepest = 10_000 // as in encoding/json
	scanner := jsonscan.Scanner{Depth: deepest, Member: visit}
	return scanner.Valid(text)
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
