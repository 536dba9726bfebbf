package backend

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What the Field of a selection may have at most. Numbers of more digits are in no payload that a backend holds as JSON.
const (
	maxFieldNames  = 16
	maxFieldDigits = 1000
)

// BodyField is the Field and the Equals of a selection, as a backend looks for them. Programs that select need none.
type BodyField struct {
	// Path is the names of members, the outermost first. None is empty, and there are at most 16.
	Path []string

	// JSON is the value: a string, a number or a boolean. A string has no NUL, and a number at most 1000 digits.
	JSON string
}

// NewBodyField returns what a [Selection] or a [DeadLetterSelection] says of the payload, or nil if it says nothing. What
// cannot match any message is a *[RefusedError], as their Check returns it.
func NewBodyField(field string, equals any) (*BodyField, error) {
	return newBodyField(field, equals, func(reason, remedy string) error {
		return &RefusedError{What: "the selection", Reason: reason, Remedy: remedy}
	})
}

func newBodyField(field string, equals any, refuse func(reason, remedy string) error) (*BodyField, error) {
	switch {
	case field == "" && equals == nil:
		return nil, nil
	case field == "":
		return nil, refuse("it has an Equals without a Field", "set the Field, which is the path to the value")
	case equals == nil:
		return nil, refuse("it has a Field without an Equals", "set the Equals, which is the value")
	}
	if err := checkSelected(refuse, selectedText{"Field", field}); err != nil {
		return nil, err
	}
	path := strings.Split(field, ".")
	switch {
	case slices.Contains(path, ""):
		return nil, refuse(fmt.Sprintf("the Field %.100q has a name that is empty", field), `write names with a point between them, as in "order.id"`)
	case len(path) > maxFieldNames:
		return nil, refuse(fmt.Sprintf("the Field has %d names, and the limit is %d", len(path), maxFieldNames), "choose by a field that is less deep")
	}
	value, err := json.Marshal(equals)
	if err != nil {
		return nil, refuse(fmt.Sprintf("the Equals cannot be encoded: %.200v", err), "set it to a string, a number or a bool")
	}
	if text := ""; value[0] == '"' && json.Unmarshal(value, &text) == nil {
		value, _ = json.Marshal(text) // a json.RawMessage can have half of a surrogate pair, which no text has
	}
	return &BodyField{Path: path, JSON: string(value)}, checkFieldValue(value, refuse)
}

// checkFieldValue refuses what no field is equal to.
func checkFieldValue(value []byte, refuse func(reason, remedy string) error) error {
	switch value[0] {
	case '"':
		var text string
		_ = json.Unmarshal(value, &text) // it was made by Marshal
		return checkSelected(refuse, selectedText{"Equals", text})
	case 't', 'f':
		return nil
	case '{', '[', 'n':
		return refuse("the Equals is encoded as an object, an array or null", "set it to a string, a number or a bool")
	}
	digits, exponent, _ := strings.Cut(strings.ToLower(string(value)), "e")
	power, err := strconv.Atoi(exponent)
	if exponent != "" && err != nil || len(digits)+max(power, -power) > maxFieldDigits {
		return refuse(fmt.Sprintf("the Equals is a number of more than %d digits", maxFieldDigits), "check it: no message has one like that")
	}
	return nil
}
