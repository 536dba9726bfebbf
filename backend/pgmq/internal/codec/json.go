package codec

import (
	"bytes"
	"unicode/utf8"

	"github.com/ezq-go/ezq/internal/jsonscan"
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

	// NumberGrowth is how many bytes the numbers of a JSON text may grow beyond its
	// length when written without exponents, as jsonb writes them: nine bytes of
	// 1e131071 become 131 kB for each reader.
	NumberGrowth = 4096
)

// fitsJSONB reports whether text is JSON which jsonb can hold, and which is
// about as large when read. In addition to what the grammar rules out, jsonb
// cannot hold NUL and lone surrogates.
func fitsJSONB(text []byte) bool {
	growth := len(text) + NumberGrowth // how much numbers may still grow
	scanner := jsonscan.Scanner{
		Depth:  maxDepth,
		String: escapesFit,
		Number: func(written []byte) bool {
			digits, exponent := extent(written)
			growth -= exponent
			return digits+exponent <= maxDigits && growth >= 0
		},
	}
	return utf8.Valid(text) && scanner.Valid(text)
}

// escapesFit reports whether each \u in a string is a character other than NUL, or
// half of a pair that is one.
func escapesFit(quoted []byte) bool {
	for {
		i := bytes.IndexByte(quoted, '\\')
		if i < 0 {
			return true
		}
		quoted = quoted[i:]
		length := 2
		if quoted[1] == 'u' {
			var r rune
			if r, length = decodeUnicode(quoted); r <= 0 {
				return false
			}
		}
		quoted = quoted[length:]
	}
}

// extent returns how many digits a number has before its exponent, and how many the
// exponent adds when it is written without it, or something above maxDigits.
func extent(number []byte) (digits, exponent int) {
	inExponent := false
	for _, c := range number {
		switch {
		case c == 'e', c == 'E':
			inExponent = true
		case isDigit(c) && inExponent:
			exponent = min(10*exponent+int(c-'0'), maxDigits+1)
		case isDigit(c):
			digits++
		}
	}
	return digits, exponent
}
