package ezq

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// timeFieldError is a field of an event that holds something else than a time in
// RFC 3339: in Python usually a datetime without a zone.
type timeFieldError struct {
	field string // as it is named on the wire
	err   error
}

func (e *timeFieldError) Error() string {
	return fmt.Sprintf("the field %q is not a time in RFC 3339 with a zone, like 2026-11-28T12:00:00Z:"+
		" in Python publish datetime.now(timezone.utc), not utcnow()", e.field)
}

func (e *timeFieldError) Unwrap() error { return e.err }

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
