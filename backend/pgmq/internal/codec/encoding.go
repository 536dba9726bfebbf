package codec

import (
	"strings"
	"unicode/utf8"
)

// Encoding is that of a database, by the name that PostgreSQL has for it.
type Encoding string

// PlainASCII is what every encoding contains.
const PlainASCII Encoding = "ASCII"

// Storable returns text without what a jsonb string cannot hold in this encoding, as far as
// that is known: of another encoding than these it is found out by trying.
func (e Encoding) Storable(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	last := utf8.MaxRune
	switch e {
	case "UTF8", "SQL_ASCII", "":
		return strings.ReplaceAll(text, "\x00", "\uFFFD")
	case "LATIN1":
		last = 0xFF
	case PlainASCII:
		last = 0x7F
	}
	return strings.Map(func(r rune) rune {
		if r == 0 || r == utf8.RuneError || r > last {
			return '?'
		}
		return r
	}, text)
}
