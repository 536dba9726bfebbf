package codec

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// appendQuoted appends s, which must be UTF-8, as a JSON string. It escapes what
// JSON wants escaped and nothing else.
func appendQuoted[T string | []byte](dst []byte, s T) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	done := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[done:i]...)
		done = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

// unquote returns what stands between the quotes of a JSON string with its
// escapes resolved, in memory of its own. ok is false if an escape is wrong.
func unquote(quoted []byte) (text []byte, ok bool) {
	text = make([]byte, 0, len(quoted))
	for {
		i := bytes.IndexByte(quoted, '\\')
		if i < 0 {
			return append(text, quoted...), true
		}
		text = append(text, quoted[:i]...)
		r, n := decodeEscape(quoted[i:])
		if r < 0 {
			return nil, false
		}
		text = utf8.AppendRune(text, r)
		quoted = quoted[i+n:]
	}
}

// decodeEscape returns the character that escape begins with, and its length. It
// is negative if that is not one.
func decodeEscape(escape []byte) (rune, int) {
	if len(escape) < 2 {
		return -1, 0
	}
	switch c := escape[1]; c {
	case '"', '\\', '/':
		return rune(c), 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	default:
		return decodeUnicode(escape)
	}
}

// decodeUnicode returns the character that escape begins with, as \u and four
// hexadecimal digits or as two of those, and its length. The character is
// negative if that is not one.
func decodeUnicode(escape []byte) (rune, int) {
	r := decodeHex(escape)
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(escape) < 12 {
		return -1, 6
	}
	r = utf16.DecodeRune(r, decodeHex(escape[6:]))
	if r == utf8.RuneError {
		return -1, 6
	}
	return r, 12
}

// decodeHex returns the value of \u and four hexadecimal digits, or -1.
func decodeHex(escape []byte) rune {
	if len(escape) < 6 || escape[0] != '\\' || escape[1] != 'u' {
		return -1
	}
	r := rune(0)
	for _, c := range escape[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
