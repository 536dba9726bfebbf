// Package jsonscan walks over JSON text without building anything from it.
package jsonscan

// Scanner knows the grammar of JSON, as encoding/json does, and asks about the rest. What is not
// set is not asked. The texts that it passes on are parts of the one it scans.
type Scanner struct {
	// Depth is how deep arrays and objects may be nested.
	Depth int

	// Member is told the members of the object that the text consists of, as they are written,
	// until the text turns out not to be well-formed.
	Member func(key, value []byte)

	// String and Number decide about each string, keys included, and each number.
	String, Number func(written []byte) bool
}

// Valid reports whether text is one JSON value in which everything is as it should be. It need not
// be UTF-8.
func (s *Scanner) Valid(text []byte) bool {
	at := s.value(text, skipSpace(text, 0), 0)
	return at != malformed && skipSpace(text, at) == len(text)
}

// Each of these takes the position where its subject begins and returns the position after it,
// or malformed.
const malformed = -1

func (s *Scanner) value(text []byte, at, depth int) int {
	if at == len(text) {
		return malformed
	}
	switch text[at] {
	case '"':
		return s.string(text, at)
	case '{':
		return s.object(text, at, depth+1)
	case '[':
		return s.array(text, at, depth+1)
	case 't':
		return skipLiteral(text, at, "true")
	case 'f':
		return skipLiteral(text, at, "false")
	case 'n':
		return skipLiteral(text, at, "null")
	}
	return s.number(text, at)
}

func (s *Scanner) object(text []byte, at, depth int) int {
	if depth > s.Depth {
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
		if at = s.string(text, at); at == malformed {
			return malformed
		}
		key := text[keyAt:at]
		if at = skipSpace(text, at); !has(text, at, ':') {
			return malformed
		}
		valueAt := skipSpace(text, at+1)
		if at = s.value(text, valueAt, depth); at == malformed {
			return malformed
		}
		if depth == 1 && s.Member != nil {
			s.Member(key, text[valueAt:at])
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

func (s *Scanner) array(text []byte, at, depth int) int {
	if depth > s.Depth {
		return malformed
	}
	at = skipSpace(text, at+1)
	if has(text, at, ']') {
		return at + 1
	}
	for {
		if at = s.value(text, at, depth); at == malformed {
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

func (s *Scanner) string(text []byte, at int) int {
	end := skipString(text, at)
	if end != malformed && s.String != nil && !s.String(text[at:end]) {
		return malformed
	}
	return end
}

func (s *Scanner) number(text []byte, at int) int {
	end := skipNumber(text, at)
	if end != malformed && s.Number != nil && !s.Number(text[at:end]) {
		return malformed
	}
	return end
}
