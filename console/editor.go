package console

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
)

// maxEdited is how many bytes a payload may have that is edited here. A browser sends a line break in six: so that form has room for it
// beside the other fields, of which none is large.
const maxEdited = 256 << 10

// editor is what a payload is edited in.
type editor struct {
	Text    string
	Escaped bool // some characters stand there as what JSON has for them
}

// newEditor returns an editor of the payload of a letter, or says why the browser could not send it back as it is.
func newEditor(letter backend.FoundDeadLetter) (e *editor, why string) {
	payload := letter.Payload
	const instead = " ezq dead show writes it to a file, and ezq dead edit replaces it."
	switch {
	case payload == nil && letter.Err != nil:
		return nil, "The payload was not read, and is not edited here." + instead
	case len(payload) > maxEdited:
		return nil, fmt.Sprintf("The payload has %s bytes, and at most %s are edited here.", grouped(int64(len(payload))), grouped(maxEdited)) + instead
	case !utf8.Valid(payload):
		return nil, "The payload is not UTF-8, and is not edited here." + instead
	case strings.ContainsFunc(string(payload), isLost) && !json.Valid(payload):
		return nil, "The payload is no JSON and has characters that cannot be seen. It is not edited here." + instead
	}
	text := editable(payload)
	return &editor{text, text != string(payload)}, ""
}

// isLost reports whether a letter cannot be seen in a field, or changes the direction of others. Line breaks can.
func isLost(c rune) bool { return c != '\r' && isHidden(c) }

// editable returns a payload as it is edited. In JSON letters that cannot be seen stand as escapes, which say the same.
func editable(payload []byte) string {
	if !json.Valid(payload) {
		return string(payload)
	}
	var out strings.Builder
	for _, c := range string(payload) {
		switch {
		case !isLost(c):
			out.WriteRune(c)
		case c > 0xffff:
			first, second := utf16.EncodeRune(c)
			fmt.Fprintf(&out, `\u%04x\u%04x`, first, second)
		default:
			fmt.Fprintf(&out, `\u%04x`, c)
		}
	}
	return out.String()
}
