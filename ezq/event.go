package ezq

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ezq-go/ezq/backend"
)

// DefaultTopic carries every event that [Topic] does not send elsewhere.
const DefaultTopic = "ezq"

// Named is implemented by event types that choose their own name.
//
// The name is a wire contract: it travels with every event, is stored in the
// queue, and programs in other languages use it too. A type without an EventName
// method has its own Go name, without the package: UserCreated is
// "UserCreated". Add the method before renaming a type that is in use, or
// accept the former name with [Alias].
//
// EventName is called on a zero value and must not depend on its fields. A name
// is UTF-8, not empty, at most [backend.MaxName] bytes long, and has no control characters.
type Named interface {
	EventName() string
}

// EventName returns the name under which events of type E travel. E and *E have
// the same name.
//
// EventName panics if E cannot have one: E is an interface, has no name of its own
// or a generic one, or its EventName is not a valid name.
func EventName[E any]() string {
	name, err := nameOf(reflect.TypeFor[E]())
	if err != nil {
		panic("ezq: " + err.Error())
	}
	return name
}

// nameOfEvent returns the name of event, or an *[EventTypeError].
func nameOfEvent(event any) (string, error) {
	t := reflect.TypeOf(event)
	if t == nil {
		return "", &EventTypeError{Type: "nil", Reason: "is not an event", Remedy: "publish a value"}
	}
	if t.Kind() == reflect.Pointer && reflect.ValueOf(event).IsNil() {
		return "", &EventTypeError{Type: t.String(), Reason: "is nil", Remedy: "publish a value"}
	}
	return nameOf(t)
}

// nameOf returns the name of events of type t, or an *[EventTypeError].
func nameOf(t reflect.Type) (string, error) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name, err := nameOfType(t)
	if err == nil && isControl(name) && t != reflect.TypeFor[EndEvent]() && t != reflect.TypeFor[InterruptEvent]() {
		return "", &EventTypeError{t.String(), "has the name " + name + ", which stops routers", "use ezq.EndEvent or ezq.InterruptEvent, or another name"}
	}
	return name, err
}

func nameOfType(t reflect.Type) (string, error) {
	switch t.Kind() {
	case reflect.Interface:
		return "", &EventTypeError{t.String(), "is an interface", "use a concrete type"}
	case reflect.Pointer:
		return "", &EventTypeError{t.String(), "is a pointer to a pointer", "use the type it points to"}
	}
	if name, declared, err := declaredName(t); declared {
		return name, err
	}
	name := t.Name()
	if t.Kind() == reflect.Slice && name == "" {
		return "", &EventTypeError{t.String(), "is several events", "use PublishBatch"}
	}
	if name == "" || t.PkgPath() == "" {
		return "", &EventTypeError{t.String(), "has no name of its own", "declare a type for the event"}
	}
	if strings.Contains(name, "[") {
		return "", &EventTypeError{t.String(), "is generic, and Go's names of generic types are not stable", "give it an EventName method"}
	}
	return name, nil
}

// declaredName returns the name of the zero value of t, so that publishers and
// handlers always have the same name.
func declaredName(t reflect.Type) (name string, declared bool, err error) {
	named, declared := reflect.TypeAssert[Named](reflect.Zero(t))
	if !declared && reflect.PointerTo(t).Implements(reflect.TypeFor[Named]()) {
		named, declared = reflect.TypeAssert[Named](reflect.New(t))
	}
	if !declared {
		return "", false, nil
	}
	defer func() {
		if v := recover(); v != nil {
			err = &EventTypeError{t.String(), fmt.Sprintf("has an EventName method that panics on a zero value (%v)", v), "return a constant"}
		}
	}()
	name = named.EventName()
	if err := validateName(name); err != nil {
		return "", true, &EventTypeError{t.String(), fmt.Sprintf("has the EventName %q, which %v", name, err), "return another name"}
	}
	return name, true, nil
}

// validateName returns an error if name cannot be that of an event. It completes a
// sentence that begins with the name.
func validateName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > backend.MaxName:
		return fmt.Errorf("has more than %d bytes", backend.MaxName)
	case !utf8.ValidString(name):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("has control characters")
	}
	return nil
}

// TopicOf returns the topic of something that is not named by the program, such as a tenant
// or a room: kind is the program's word for what it is, and id which one.
//
//	ezq.Publish(ctx, client, event, ezq.Topic(ezq.TopicOf("tenant", tenant)))
//
// No two ids, of one kind or of two, have the same topic, and none has the dead-letter
// topic of another one, whatever the ids are. An id of lower-case letters and digits is
// shown as it is: "tenant_acme". Any other byte becomes an underscore and two letters from g
// to v; and so does the first one of the id "dead". Topics that the program names itself
// must not begin with the kind and an underscore.
//
// An id of more than 250 bytes, or of more than 80 that are all such bytes, can make a
// topic that is refused. TopicOf panics if kind is not of lower-case letters and digits,
// beginning with a letter, or is longer than 20 bytes.
func TopicOf(kind, id string) string {
	if kind == "" || len(kind) > 20 || kind[0] <= '9' || strings.ContainsFunc(kind, func(r rune) bool { return !isPlain(r) }) {
		panic(fmt.Sprintf("ezq: TopicOf: the kind %q is not of lower-case letters and digits, beginning with a letter: use a word like \"tenant\"", kind))
	}
	var topic strings.Builder
	topic.Grow(len(kind) + 1 + len(id))
	topic.WriteString(kind + "_")
	for i := range len(id) {
		if c := id[i]; isPlain(rune(c)) && (i > 0 || id != "dead") {
			topic.WriteByte(c)
		} else {
			topic.Write([]byte{'_', 'g' + c>>4, 'g' + c&0xf})
		}
	}
	return topic.String()
}

func isPlain(r rune) bool { return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' }
