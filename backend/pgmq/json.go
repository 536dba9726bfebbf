package pgmq

import (
	"bytes"
	"unicode/utf8"
)

const (
	// maxDepth is how deep JSON may be nested to be stored as jsonb. PostgreSQL
	// recurses into it, and with the smallest max_stack_depth of 100 kB gives up
	// between 500 and 800.
	maxDepth = 500

	// maxDigits is how many digits a number may have when written without an
	// exponent. All float64 have fewer. PostgreSQL fails beyond 131072 before or
	// 16383 after the point.
	maxDigits = 1000

	// numberRoom is how many bytes the numbers of a JSON text may grow beyond its
	// length when written without exponents, as jsonb writes them: nine bytes of
	// 1e131071 become 131 kB for each reader.
	numberRoom = 4096
)

// fitsJSONB reports whether text is JSON which jsonb can hold, and which is
// about as large when read. In addition to what the grammar rules out, jsonb
// cannot hold NUL and lone surrogates.
func fitsJSONB(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	s := jsonScanner{text: text, room: len(text) + numberRoom}
	return s.value(0) && s.end()
}

// jsonScanner walks over JSON. Its methods consume what they are named after
// and report whether that was there.
type jsonScanner struct {
	text []byte
	at   int
	room int // how much numbers may still grow
}

// next returns the next byte without consuming it, or 0, which no JSON contains.
func (s *jsonScanner) next() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

func (s *jsonScanner) is(c byte) bool {
	if s.next() != c {
		return false
	}
	s.at++
	return true
}

// space consumes white space and returns the byte after it like next.
func (s *jsonScanner) space() byte {
	for {
		switch c := s.next(); c {
		case ' ', '\t', '\n', '\r':
			s.at++
		default:
			return c
		}
	}
}

func (s *jsonScanner) end() bool {
	s.space()
	return s.at == len(s.text)
}

func (s *jsonScanner) value(depth int) bool {
	switch s.space() {
	case '{':
		return depth < maxDepth && s.object(depth+1)
	case '[':
		return depth < maxDepth && s.array(depth+1)
	case '"':
		return s.string()
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *jsonScanner) object(depth int) bool {
	s.at++
	if s.space() == '}' {
		s.at++
		return true
	}
	for {
		if s.space() != '"' || !s.string() || s.space() != ':' {
			return false
		}
		s.at++
		if !s.value(depth) {
			return false
		}
		if s.space() != ',' {
			return s.is('}')
		}
		s.at++
	}
}

func (s *jsonScanner) array(depth int) bool {
	s.at++
	if s.space() == ']' {
		s.at++
		return true
	}
	for s.value(depth) {
		if s.space() != ',' {
			return s.is(']')
		}
		s.at++
	}
	return false
}

func (s *jsonScanner) word(word string) bool {
	found := bytes.HasPrefix(s.text[s.at:], []byte(word))
	s.at += len(word)
	return found
}

func (s *jsonScanner) string() bool {
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < ' ':
			return false
		}
	}
	return false
}

// escape stops at the last byte of the escape.
func (s *jsonScanner) escape() bool {
	s.at++
	switch s.next() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		r, n := decodeUnicode(s.text[s.at-1:])
		s.at += n - 2
		return r > 0
	default:
		return false
	}
}

func (s *jsonScanner) number() bool {
	s.is('-')
	digits := s.digits()
	if digits == 0 || digits > 1 && s.text[s.at-digits] == '0' {
		return false
	}
	if s.is('.') {
		fraction := s.digits()
		if fraction == 0 {
			return false
		}
		digits += fraction
	}
	exponent := 0
	if c := s.next(); c == 'e' || c == 'E' {
		s.at++
		if !s.is('+') {
			s.is('-')
		}
		n := s.digits()
		if n == 0 {
			return false
		}
		exponent = magnitude(s.text[s.at-n : s.at])
		s.room -= exponent
	}
	return digits+exponent <= maxDigits && s.room >= 0
}

// digits returns how many it has consumed.
func (s *jsonScanner) digits() int {
	from := s.at
	for isDigit(s.next()) {
		s.at++
	}
	return s.at - from
}

// magnitude returns the value of digits, or something above maxDigits if it is
// above maxDigits.
func magnitude(digits []byte) int {
	n := 0
	for _, c := range digits {
		n = min(10*n+int(c-'0'), maxDigits+1)
	}
	return n
}
