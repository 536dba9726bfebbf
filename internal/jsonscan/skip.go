package jsonscan

import "bytes"

func skipString(text []byte, at int) int {
	for at++; ; at++ {
		at += Plain(text[at:])
		if has(text, at, '"') {
			return at + 1
		}
		if !has(text, at, '\\') {
			return malformed
		}
		if at = skipEscape(text, at); at == malformed {
			return malformed
		}
	}
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
