package terminal

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// ShellWord writes an argument as bash takes it, in characters that a terminal shows.
func ShellWord(argument string) string {
	switch {
	case argument != "" && strings.IndexFunc(argument, isSpecial) < 0:
		return argument
	case utf8.ValidString(argument) && strings.IndexFunc(argument, isHidden) < 0:
		return "'" + strings.ReplaceAll(argument, "'", `'\''`) + "'"
	}
	var word strings.Builder
	for rest := argument; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch char := rest[:n]; {
		case r == '\'' || r == '\\':
			word.WriteString(`\` + char)
		case r == '!' || isHidden(r) || r == utf8.RuneError: // bash looks for ! even here
			for _, b := range []byte(char) {
				fmt.Fprintf(&word, `\x%02x`, b)
			}
		default:
			word.WriteString(char)
		}
		rest = rest[n:]
	}
	return "$'" + word.String() + "'"
}

func isSpecial(r rune) bool {
	plain := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@+", r)
	return !plain
}
