package jsonscan

import (
	"encoding/binary"
	"math/bits"
)

// Plain returns how many bytes text begins with that stand for themselves in a string of JSON: the
// next one, if there is any, is a quotation mark, a backslash or a control character.
//
// It looks at eight bytes at a time. Each of the three tests sets the highest bit of a byte that it
// is about, and may set it wrongly only above such a byte, so that the lowest bit of all is right
// (Hacker's Delight, section 6-1).
func Plain(text []byte) int {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	at := 0
	for ; at+8 <= len(text); at += 8 {
		word := binary.LittleEndian.Uint64(text[at:])
		quote, backslash := word^(ones*'"'), word^(ones*'\\')
		found := (quote - ones) & ^quote
		found |= (backslash - ones) & ^backslash
		found |= (word - ones*' ') & ^word
		if found &= highest; found != 0 {
			return at + bits.TrailingZeros64(found)/8
		}
	}
	for at < len(text) && text[at] >= ' ' && text[at] != '"' && text[at] != '\\' {
		at++
	}
	return at
}
