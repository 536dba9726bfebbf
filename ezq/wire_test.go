package ezq

import (
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write testdata/wire anew")

// pinned holds event to the bytes in testdata/wire/<file>.json, which it returns.
func pinned(t *testing.T, file string, event any) []byte {
	t.Helper()
	path := filepath.Join("testdata", "wire", file+".json")
	name, wire, err := encode(event)
	require.NoError(t, err)
	if *update {
		require.NoError(t, os.WriteFile(path, wire, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), string(wire))
	peeked, ok := peek(want)
	require.True(t, ok)
	require.Equal(t, name, string(peeked))
	return want
}

// golden also holds those bytes to event, and what PostgreSQL made of them, if
// its jsonb can hold them: testdata/wire/<file>.jsonb.
func golden[E any](t *testing.T, file string, event E) {
	t.Helper()
	forms := [][]byte{pinned(t, file, event)}
	if stored, err := os.ReadFile(filepath.Join("testdata", "wire", file+".jsonb")); err == nil {
		forms = append(forms, stored)
	}
	for _, wire := range forms {
		name, ok := peek(wire)
		require.True(t, ok)
		require.Equal(t, EventName[E](), string(name))
		back, err := decode[E](string(name), wire)
		require.NoError(t, err)
		require.Equal(t, event, back)
	}
}

type Address struct {
	Street string
	City   *string
}

type quotedName struct{ N int }

func (quotedName) EventName() string { return `say "hi" \ <b>ä` }

func TestWireForm_IsPinned(t *testing.T) {
	t.Parallel()
	type UserCreated struct{ Email string }
	type Nothing struct{}
	type Texts struct{ Umlaut, Emoji, Markup, Quoted, Separator, Null string }
	type Numbers struct {
		Beyond2e53 int64
		Most       uint64
		Least      int64
		Tenth      float64
		Huge       float64
		AsText     int64       `json:",string"`
		Exact      json.Number `json:"exact"`
	}
	type Nested struct {
		ID      int `json:"id"`
		To      Address
		Lines   []Address
		Labels  map[string]string
		Absent  *Address
		Skipped string `json:"skipped,omitempty"`
		Inner   map[string]map[string]string
	}
	type Moment struct {
		At   time.Time
		For  time.Duration
		Data []byte
	}
	type Raw struct{ Any json.RawMessage }
	type Tagged map[string]any

	golden(t, "user_created", UserCreated{Email: "ada@example.com"})
	golden(t, "pointer", &UserCreated{Email: "ada@example.com"})
	golden(t, "nothing", Nothing{})
	golden(t, "texts", Texts{"Grüße", "\U0001F600", "a < b & c > d", `"\` + "\t\n", "\u2028", "a\x00b"})
	golden(t, "numbers", Numbers{1<<53 + 1, math.MaxUint64, math.MinInt64, 0.1, 1e300, 1<<53 + 1, "1234567890.123456789012345678901234567890"})
	golden(t, "nested", Nested{
		ID: 1, To: Address{Street: "Main"}, Lines: []Address{{City: new("Paris")}}, Labels: map[string]string{"b": "2", "a": "1"},
		Inner: map[string]map[string]string{"deep": {"_type": "not the name"}},
	})
	golden(t, "moment", Moment{time.Date(2024, 2, 29, 23, 59, 59, 123456789, time.UTC), 90 * time.Second, []byte{0, 0xff}})
	golden(t, "raw", Raw{json.RawMessage(`{"a":[1,"_type"]}`)})
	pinned(t, "map", Tagged{"text": `{"_type":"not the name"}`, "list": []any{true, nil}})
	golden(t, "quoted_name", quotedName{N: 1})
	golden(t, "end_event", EndEvent{})
	golden(t, "end_event_10s", EndEvent{Timeout: 10 * time.Second})
	golden(t, "end_event_fraction", EndEvent{Timeout: 1500*time.Millisecond + 1})
	golden(t, "interrupt_event", InterruptEvent{})
}

func TestWireForm_ReadsOtherPrograms(t *testing.T) {
	t.Parallel()
	type OrderPlaced struct {
		ID    int64 `json:"id"`
		Note  string
		Price float64
	}
	want := OrderPlaced{ID: 1<<53 + 1, Note: "ä\U0001F600", Price: 10}
	for text, wire := range map[string]string{
		"json.dumps":             `{"_type": "OrderPlaced", "id": 9007199254740993, "Note": "\u00e4\ud83d\ude00", "Price": 10.0}`,
		"jsonb":                  `{"id": 9007199254740993, "Note": "ä😀", "Price": 10.0, "_type": "OrderPlaced"}`,
		"fields of a newer type": `{"id":9007199254740993,"Note":"ä😀","Price":1e1,"new":{"_type":"Other"},"_type":"OrderPlaced"}`,
		"indented":               "{\n  \"id\": 9007199254740993,\n  \"Note\": \"ä😀\",\n  \"Price\": 10,\n  \"_type\": \"OrderPlaced\"\n}\n",
		"fields in other case":   `{"_type":"OrderPlaced","ID":9007199254740993,"note":"ä😀","price":10}`,
	} {
		name, ok := peek([]byte(wire))
		require.True(t, ok, text)
		require.Equal(t, "OrderPlaced", string(name), text)
		got, err := decode[OrderPlaced]("OrderPlaced", []byte(wire))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		pointer, err := decode[*OrderPlaced]("OrderPlaced", []byte(wire))
		require.NoError(t, err, text)
		require.Equal(t, &want, pointer, text)
	}
}

func TestWireForm_OtherPayloadIsDecodeError(t *testing.T) {
	t.Parallel()
	for wire, why := range map[string]string{
		``:                                   "not a JSON object",
		`null`:                               "not a JSON object",
		`[]`:                                 "not a JSON object",
		`"{}"`:                               "not a JSON object",
		`3`:                                  "not a JSON object",
		`{`:                                  "unexpected end",
		`{"_type":"plainEvent"}x`:            "invalid character",
		`{"_type":"plainEvent","N":"three"}`: "cannot unmarshal string",
		`{"_type":"plainEvent","N":1.5}`:     "cannot unmarshal number",
	} {
		event, err := decode[plainEvent]("plainEvent", []byte(wire))
		var failed *DecodeError
		require.ErrorAs(t, err, &failed, wire)
		require.Equal(t, "plainEvent", failed.Event)
		require.ErrorContains(t, err, "ezq: decode plainEvent: ")
		require.ErrorContains(t, err, why)
		require.Zero(t, event)
		pointer, err := decode[*plainEvent]("plainEvent", []byte(wire))
		require.ErrorAs(t, err, &failed, wire)
		require.Nil(t, pointer)
	}
}

type (
	ownType struct {
		Kind string `json:"_type"`
	}
	shoutedType struct {
		Kind string `json:"_TYPE"`
	}
	embeddedType struct{ ownType }
	escapedType  struct{}
	listEvent    []int
	timeEvent    struct{ time.Time }
	nullEvent    map[string]int
	chanEvent    struct{ C chan int }
	lateNumber   struct{ F float64 }
)

func (escapedType) MarshalJSON() ([]byte, error) { return []byte(` { "\u005ftype" : 1 } `), nil }

func TestWireForm_RefusesUnsuitableEvent(t *testing.T) {
	t.Parallel()
	for why, events := range map[string][]any{
		"has a field of its own that encodes as _type, where the name of the event goes: rename the field": {
			ownType{}, &ownType{}, shoutedType{}, embeddedType{}, escapedType{}, mapEvent{"_type": 1}, mapEvent{"a": 1, "_type": nil},
		},
		"encodes to [1], not to a JSON object: use a struct": {listEvent{1}},
		"encodes to null, not to a JSON object":              {nullEvent(nil)},
		`encodes to "text", not to a JSON object`:            {stringEvent("text")},
		`encodes to "2024-02-29T00:00:00, not to a JSON`:     {timeEvent{time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)}},
	} {
		for _, event := range events {
			_, wire, err := encode(event)
			var refused *EventTypeError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, why)
			require.Nil(t, wire)
		}
	}
	for _, event := range []any{chanEvent{}, lateNumber{math.NaN()}, lateNumber{math.Inf(1)}, EndEvent{Timeout: -1}} {
		_, wire, err := encode(event)
		require.Error(t, err)
		require.Nil(t, wire)
	}
}

type objectMarshaler struct{ n int }

func (o objectMarshaler) MarshalJSON() ([]byte, error) {
	return json.MarshalIndent(map[string]any{"n": o.n, "html": "<&>"}, "", "\t")
}

type emptyMarshaler struct{}

func (emptyMarshaler) MarshalJSON() ([]byte, error) { return []byte(" {\n} "), nil }

func TestWireForm_AcceptsObjectOfMarshaler(t *testing.T) {
	t.Parallel()
	_, wire, err := encode(objectMarshaler{n: 1})
	require.NoError(t, err)
	require.Equal(t, `{"_type":"objectMarshaler","html":"\u003c\u0026\u003e","n":1}`, string(wire))
	_, wire, err = encode(emptyMarshaler{})
	require.NoError(t, err)
	require.Equal(t, `{"_type":"emptyMarshaler"}`, string(wire))
}

func FuzzEvent_SurvivesJourney(f *testing.F) {
	type Traveller struct {
		Text   string
		Int    int64
		Uint   uint64
		Float  float64
		Bytes  []byte
		Map    map[string]string
		Inside struct {
			Type string `json:"_type"`
		}
	}
	f.Add("", int64(0), uint64(0), 0.0, []byte(nil), "")
	f.Add(`"_type":"x"`, int64(math.MinInt64), uint64(math.MaxUint64), 1e-300, []byte{0}, "_type")
	f.Add("\x00\u2028\ufffd", int64(1<<53+1), uint64(1), math.Copysign(0, -1), []byte("b"), `\"}`)
	f.Fuzz(func(t *testing.T, text string, i int64, u uint64, float float64, b []byte, key string) {
		event := Traveller{Text: text, Int: i, Uint: u, Float: float, Bytes: b, Map: map[string]string{key: text}}
		event.Inside.Type = text
		name, wire, err := encode(event)
		if math.IsNaN(float) || math.IsInf(float, 0) {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.True(t, json.Valid(wire))
		peeked, ok := peek(wire)
		require.True(t, ok)
		require.Equal(t, name, string(peeked))
		back, err := decode[Traveller](name, wire)
		require.NoError(t, err)
		if utf8.ValidString(text) && utf8.ValidString(key) {
			require.Equal(t, event, back)
		}
	})
}

func TestWireForm_DecodedMapContainsName(t *testing.T) {
	t.Parallel()
	_, wire, err := encode(mapEvent{"a": "b"})
	require.NoError(t, err)
	event, err := decode[mapEvent]("mapEvent", wire)
	require.NoError(t, err)
	require.Equal(t, mapEvent{"_type": "mapEvent", "a": "b"}, event)
}
