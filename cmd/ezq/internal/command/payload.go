package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
)

// named returns the payload with the name of the event in it, as it is otherwise. It refuses what is no JSON; with a name,
// also what is no object, and one that has another name.
func named(payload []byte, name string) ([]byte, error) {
	payload = bytes.TrimSpace(payload)
	switch err := json.Unmarshal(payload, new(json.RawMessage)); {
	case len(payload) == 0:
		return nil, errors.New("it is empty: write JSON, as in {\"Order\": 7}")
	case !utf8.Valid(payload):
		return nil, errors.New("it is not UTF-8")
	case err != nil:
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			return nil, fmt.Errorf("it is no JSON, as byte %d of %d shows", syntax.Offset, len(payload))
		}
		return nil, errors.New("it is no JSON")
	case name == "":
		return payload, nil
	case len(name) > backend.MaxName || strings.ContainsFunc(name, unicode.IsControl) || !utf8.ValidString(name):
		return nil, fmt.Errorf("the name of the event has control characters, is not UTF-8, or has more than %d bytes", backend.MaxName)
	case payload[0] != '{':
		return nil, errors.New("it is no JSON object, which an event with a name must be")
	}
	given, has, err := typeOf(payload)
	switch {
	case err != nil:
		return nil, err
	case has && given != name:
		return nil, errors.New(`it has another "_type" than --event says: leave one of them out`)
	case has:
		return payload, nil
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	fields := bytes.TrimSpace(payload[1:])
	between := ","
	if fields[0] == '}' {
		between = ""
	}
	return append([]byte(`{"_type":`+string(quoted)+between), fields...), nil
}

// typeOf returns the member _type of a JSON object, in any case: some decoders do not distinguish _type from _TYPE.
func typeOf(object []byte) (name string, has bool, err error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	if _, err := decoder.Token(); err != nil {
		return "", false, err
	}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return "", false, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil && !errors.Is(err, io.EOF) {
			return "", false, err
		}
		if text, ok := key.(string); ok && strings.EqualFold(text, "_type") {
			has = true
			if text != "_type" || json.Unmarshal(value, &name) != nil {
				return "", true, errors.New(`it has a member that is like "_type", where the name of the event goes: rename it`)
			}
		}
	}
	return name, has, nil
}
