package memory

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/jsonscan"
)

// maxDepth is how deep JSON may be nested that has fields: what PGMQ holds as JSON.
const maxDepth = 500

// field is a field of a payload, and the value that it must have.
type field struct {
	path  []string
	value jsonValue
}

// newField returns the field that a selection says, which was checked, or nil.
func newField(path string, equals any) *field {
	said, err := backend.NewBodyField(path, equals)
	if err != nil || said == nil {
		return nil
	}
	return &field{said.Path, newJSONValue([]byte(said.JSON))}
}

// isIn reports whether a payload has the field with the value. Every payload has a nil one.
func (f *field) isIn(payload []byte) bool {
	if f == nil {
		return true
	}
	if !utf8.Valid(payload) {
		return false
	}
	text := payload
	for i, name := range f.path {
		var member []byte
		scanner := jsonscan.Scanner{Depth: maxDepth, Member: func(key, value []byte) {
			if named(key, name) {
				member = value // the last one counts
			}
		}}
		if i == 0 {
			scanner.String = hasNoNUL
		}
		if !scanner.Valid(text) || member == nil {
			return false
		}
		text = member
	}
	return newJSONValue(text) == f.value
}

// named reports whether a key, as it is written, is a name.
func named(key []byte, name string) bool {
	if len(key) == len(name)+2 && string(key[1:len(key)-1]) == name {
		return true
	}
	var written string
	return bytes.IndexByte(key, '\\') >= 0 && json.Unmarshal(key, &written) == nil && written == name
}

// hasNoNUL reports whether a string has none, with which PGMQ holds no JSON.
func hasNoNUL(written []byte) bool {
	var text string
	return !bytes.Contains(written, []byte(`\u0000`)) || json.Unmarshal(written, &text) == nil && !strings.Contains(text, "\x00")
}

// jsonValue is a string, a number or a boolean, in the one form that all of its texts have. What is none of these is of
// no kind.
type jsonValue struct {
	kind   byte
	text   string // of a string, its characters; of a number, its digits without zeros at the ends
	point  int    // how many of the digits are before the point
	signed bool
}

// newJSONValue returns the value of a JSON text that is well-formed, with white space behind it at most.
func newJSONValue(written []byte) (v jsonValue) {
	switch written[0] {
	case '"':
		v.kind = '"'
		_ = json.Unmarshal(written, &v.text)
	case 't', 'f':
		v.kind = written[0]
	case '{', '[', 'n':
	default:
		return newJSONNumber(string(written))
	}
	return v
}

// newJSONNumber returns a number without making it: a few bytes can have a gigabyte of digits.
func newJSONNumber(written string) jsonValue {
	v := jsonValue{kind: '0'}
	written, v.signed = strings.CutPrefix(written, "-")
	mantissa, exponent, _ := strings.Cut(strings.ToLower(written), "e")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	v.text = strings.TrimRight(digits, "0")
	if v.text == "" {
		return jsonValue{kind: '0'} // whatever its sign and its exponent
	}
	v.point = len(digits) - len(fraction) + exponentOf(exponent)
	return v
}

// exponentOf returns an exponent, or one that no number has that is looked for.
func exponentOf(written string) (exponent int) {
	const beyond = 1 << 30
	sign := 1
	for _, c := range written {
		switch {
		case c == '-':
			sign = -1
		case c != '+':
			exponent = min(10*exponent+int(c-'0'), beyond)
		}
	}
	return sign * exponent
}
