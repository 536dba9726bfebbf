// Package terminal writes what others may have written, so that a terminal shows it and obeys none of it.
package terminal

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// Printable returns text as it is if a terminal only shows it, and else quoted, as Go quotes.
func Printable(text string) string {
	if strings.IndexFunc(text, isHidden) < 0 {
		return text
	}
	return strconv.Quote(text)
}

// SingleLine returns text without white space around it, and with a space in the place of each character that
// a terminal does not only show.
func SingleLine(text string) string {
	return strings.Map(func(r rune) rune {
		if isHidden(r) {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

// JSON escapes what JSON leaves as it is, and a terminal may obey. Line breaks stay.
func JSON(text []byte) string {
	var b strings.Builder
	for _, r := range string(text) {
		switch {
		case r == '\n' || !isHidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			_, _ = fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

func isHidden(r rune) bool { return !unicode.IsPrint(r) }
