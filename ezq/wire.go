package ezq

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/internal/jsonscan"
)

// On the wire an event is a JSON object that names its type first:
//
//	{"_type":"UserCreated","Email":"ada@example.com"}
//
// Any program that can write such an object can publish to ezq. docs/wire.md
// says the rest.

// typeKey is the member that names the event.
const typeKey = "_type"

// encode returns the name and the wire form of event. Its error is an
// *[EventTypeError], or that of encoding/json.
func encode(event any) (name string, wire []byte, err error) {
	name, err = nameOfEvent(event)
	if err != nil {
		return "", nil, err
	}
	var out bytes.Buffer
	out.WriteString(`{"` + typeKey + `":"` + escaped(name) + `"`)
	head := out.Len()

	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false) // "a & b" stays readable in the database
	if err := encoder.Encode(event); err != nil {
		return name, nil, err
	}
	wire = bytes.TrimSuffix(out.Bytes(), []byte("\n"))
	fields := wire[head:]
	if fields[0] != '{' {
		return name, nil, &EventTypeError{
			fmt.Sprintf("%T", event),
			fmt.Sprintf("encodes to %.20s, not to a JSON object", fields),
			"use a struct, or a MarshalJSON method that writes an object",
		}
	}
	if hasTypeKey(fields) {
		return name, nil, &EventTypeError{
			fmt.Sprintf("%T", event),
			"has a field of its own that encodes as " + typeKey + ", where the name of the event goes",
			"rename the field",
		}
	}
	// The head takes the place of the opening brace.
	if len(fields) == len("{}") {
		return name, append(wire[:head], '}'), nil
	}
	fields[0] = ','
	return name, wire, nil
}

// escaped returns name, which has no control characters, as it stands between
// the quotes of a JSON string.
func escaped(name string) string {
	if !strings.ContainsAny(name, `"\`) {
		return name
	}
	return strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(name)
}

// hasTypeKey reports whether the JSON object has a member that decoders may take
// for the name of the event. encoding/json, for one, does not distinguish
// _type from _TYPE.
func hasTypeKey(object []byte) (found bool) {
	eachMember(object, func(key, _ []byte) {
		found = found || bytes.EqualFold(unquoted(key), []byte(typeKey))
	})
	return found
}

// decode returns the event of type E that wire holds. Members that E does not
// have, _type among them, are ignored. Its error is a *[DecodeError].
func decode[E any](name string, wire []byte) (E, error) {
	var event, zero E
	if !bytes.HasPrefix(bytes.TrimLeft(wire, " \t\r\n"), []byte("{")) {
		return zero, &DecodeError{Event: name, Err: payloadError("the payload is not a JSON object")}
	}
	if err := json.Unmarshal(wire, &event); err != nil {
		return zero, &DecodeError{Event: name, Err: nameTimeField(event, wire, err)}
	}
	return event, nil
}

// peek returns the name of the event in wire: the string that the top-level
// member _type holds. It may stand anywhere, since jsonb orders members anew. Of
// several the last counts, as it does for jsonb, Python and encoding/json.
//
// ok is false if wire names no event, and if wire is not one JSON object as
// encoding/json knows it. The name may be a part of wire.
func peek(wire []byte) (name []byte, ok bool) {
	var value []byte
	wellFormed := eachMember(wire, func(key, v []byte) {
		if isTypeKey(key) {
			value = v
		}
	})
	if !wellFormed || len(value) == 0 || value[0] != '"' {
		return nil, false
	}
	name = unquoted(value)
	return name, len(name) > 0
}

// eachMember calls visit with the members of the JSON object that text consists of,
// as they are written. It reports whether text is well-formed JSON; if not, visit
// has seen a part.
func eachMember(text []byte, visit func(key, value []byte)) (wellFormed bool) {
	const deepest = 10_000 // as in encoding/json
	scanner := jsonscan.Scanner{Depth: deepest, Member: visit}
	return scanner.Valid(text)
}

// isTypeKey reports whether the JSON string key reads _type.
func isTypeKey(key []byte) bool {
	if string(key) == `"`+typeKey+`"` {
		return true
	}
	const longest = len(`"\u005f\u0074\u0079\u0070\u0065"`)
	return len(key) <= longest && bytes.IndexByte(key, '\\') >= 0 && string(unquoted(key)) == typeKey
}

// unquoted returns what the well-formed JSON string quoted says.
func unquoted(quoted []byte) []byte {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return inner
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // cannot fail: the string is well-formed
	return []byte(s)
}

// nameTimeField adds to err, with which wire was not decoded into event, the name of the
// field that is to blame if that is a time: encoding/json does not tell. Otherwise it
// returns err.
func nameTimeField(event any, wire []byte, err error) error {
	if _, ok := errors.AsType[*time.ParseError](err); !ok {
		return err
	}
	t := reflect.TypeOf(event)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return err
	}
	members := map[string]json.RawMessage{}
	if json.Unmarshal(wire, &members) != nil {
		return err
	}
	for _, field := range reflect.VisibleFields(t) {
		if field.Type != reflect.TypeFor[time.Time]() && field.Type != reflect.TypeFor[*time.Time]() {
			continue
		}
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" {
			name = field.Name
		}
		for key, value := range members {
			if strings.EqualFold(key, name) && json.Unmarshal(value, new(*time.Time)) != nil {
				return &timeFieldError{name, err}
			}
		}
	}
	return err
}

// The headers that ezq reads and writes.
const (
	contentType = "content-type"

	// nameHeader is where Watermill's cqrs package puts the name of an event.
	nameHeader = "name"

	// keyHeader carries the key of an event. It is the header by which PGMQ's own
	// functions for grouped reading tell groups apart.
	keyHeader = "x-pgmq-group"

	// Events that a handler publishes with its context say where they come from.
	correlationHeader = "correlation_id" // as Watermill's CorrelationID has it
	causationHeader   = "causation_id"

	reservedPrefix = "ezq_"
	poisonedSuffix = "_poisoned"
)

// isText reports whether a database can hold s as text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// publishableID returns id, or "" if no published event could have it: it comes from a
// program that does not use ezq, and events that follow from its event have to be
// published.
func publishableID(id string) string {
	if len(id) > backend.MaxID || !isText(id) {
		return ""
	}
	return id
}
