package ezq

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

type (
	plainEvent          struct{ N int }
	mapEvent            map[string]any
	stringEvent         string
	genericEvent[T any] struct{ Body T }

	valueNamed          struct{ Other string }
	pointerNamed        struct{ Other string }
	mapNamed            map[string]string
	genericNamed[T any] struct{ Body T }
	fieldNamed          struct{ Name string }
	emptyNamed          struct{}
	controlNamed        struct{}
	brokenNamed         struct{}
	panicNamed          struct{ *valueNamed }
	ifaceNamed          struct{ Named }
)

func (valueNamed) EventName() string      { return "value.named" }
func (*pointerNamed) EventName() string   { return "pointer.named" }
func (mapNamed) EventName() string        { return "map.named" }
func (genericNamed[T]) EventName() string { return "generic.named" }
func (e fieldNamed) EventName() string    { return "field." + e.Name }
func (emptyNamed) EventName() string      { return "" }
func (controlNamed) EventName() string    { return "a\x00b" }
func (brokenNamed) EventName() string     { return "a\xffb" }

func TestEventName_IsNameOfType(t *testing.T) {
	t.Parallel()
	type Örtlich struct{}
	type alias = plainEvent
	for want, names := range map[string][]string{
		"plainEvent":    {EventName[plainEvent](), EventName[*plainEvent](), EventName[alias]()},
		"mapEvent":      {EventName[mapEvent](), EventName[*mapEvent]()},
		"Örtlich":       {EventName[Örtlich]()},
		"value.named":   {EventName[valueNamed](), EventName[*valueNamed](), EventName[struct{ valueNamed }]()},
		"pointer.named": {EventName[pointerNamed](), EventName[*pointerNamed]()},
		"map.named":     {EventName[mapNamed]()},
		"generic.named": {EventName[genericNamed[int]](), EventName[*genericNamed[string]]()},
		"EZQEndEvent":   {EventName[EndEvent]()},
	} {
		for _, name := range names {
			require.Equal(t, want, name)
		}
	}
}

func TestEventName_AgreesForPublishersAndHandlers(t *testing.T) {
	t.Parallel()
	for want, events := range map[string][]any{
		EventName[plainEvent]():   {plainEvent{}, &plainEvent{}},
		EventName[valueNamed]():   {valueNamed{}, &valueNamed{}},
		EventName[pointerNamed](): {pointerNamed{}, &pointerNamed{}},
		EventName[fieldNamed]():   {fieldNamed{Name: "a"}, &fieldNamed{Name: "b"}},
	} {
		for _, event := range events {
			name, err := nameOfEvent(event)
			require.NoError(t, err)
			require.Equal(t, want, name)
		}
	}
}

func TestEvent_RefusesUnsuitableTypeWithRemedy(t *testing.T) {
	t.Parallel()
	var noEvent *plainEvent
	var noPointer *pointerNamed
	for want, event := range map[string]any{
		"event type nil is not an event: publish a value":                                                                          nil,
		"event type *ezq.plainEvent is nil: publish a value":                                                                       noEvent,
		"event type *ezq.pointerNamed is nil: publish a value":                                                                     noPointer,
		"event type *ezq.plainEvent is a pointer to a pointer: use the type it points to":                                          &noEvent,
		"event type error is an interface: use a concrete type":                                                                    new(error),
		"event type struct { N int } has no name of its own: declare a type for the event":                                         struct{ N int }{},
		"event type map[string]int has no name of its own: declare a type for the event":                                           map[string]int{},
		"event type string has no name of its own: declare a type for the event":                                                   "text",
		"event type []ezq.plainEvent is several events: use PublishBatch":                                                          []plainEvent{{}},
		"event type ezq.genericEvent[int] is generic, and Go's names of generic types are not stable: give it an EventName method": genericEvent[int]{},
		`event type ezq.emptyNamed has the EventName "", which is empty: return another name`:                                      emptyNamed{},
		`event type ezq.controlNamed has the EventName "a\x00b", which has control characters: return another name`:                &controlNamed{},
		`event type ezq.brokenNamed has the EventName "a\xffb", which is not valid UTF-8: return another name`:                     brokenNamed{},
	} {
		_, err := nameOfEvent(event)
		var refused *EventTypeError
		require.ErrorAs(t, err, &refused)
		require.EqualError(t, err, want)
	}
	for _, event := range []any{panicNamed{}, &ifaceNamed{}} {
		_, err := nameOfEvent(event)
		require.ErrorContains(t, err, "has an EventName method that panics on a zero value")
	}
}

func TestEventName_PanicsOnUnnamedType(t *testing.T) {
	t.Parallel()
	require.PanicsWithValue(t, "ezq: event type interface {} is an interface: use a concrete type", func() { EventName[any]() })
	for _, name := range []func() string{
		EventName[error], EventName[Named], EventName[context.Context], EventName[int], EventName[struct{}], EventName[func()],
		EventName[**plainEvent], EventName[[]plainEvent], EventName[genericEvent[int]], EventName[emptyNamed], EventName[panicNamed],
	} {
		require.Panics(t, func() { name() })
	}
}

func FuzzEventName_TravelsIfAdmitted(f *testing.F) {
	for _, name := range []string{"UserCreated", "", "user.created", `a"b\c`, "ä\u2028\U0001F600", "<&>", "\x7f", "\xff"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if validateName(name) != nil {
			t.Skip()
		}
		got, ok := peek(head(name, '}'))
		require.True(t, ok)
		require.Equal(t, name, string(got))
		want, ok := peekSlowly(head(name, '}'))
		require.True(t, ok)
		require.Equal(t, name, want)
	})
}
