// Package excerpt shortens what others have written, for logs and errors.
package excerpt

import "unicode/utf8"

// Longest is how many bytes of a text are shown.
const Longest = 100

// Of returns text, or its beginning with an ellipsis if it has more than [Longest] bytes.
func Of(text string) string {
	if len(text) <= Longest {
		return text
	}
	const more = "…"
	end := Longest - len(more)
	for end > Longest-len(more)-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + more
}
