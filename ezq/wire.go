package ezq

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
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
// *[EventTypeError], or says what encoding/json did not like.
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
		return zero, &DecodeError{Event: name, Err: defect("the payload is not a JSON object")}
	}
	if err := json.Unmarshal(wire, &event); err != nil {
		return zero, &DecodeError{Event: name, Err: nameTimeField(event, wire, err)}
	}
	return event, nil
}
