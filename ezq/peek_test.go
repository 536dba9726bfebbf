package ezq

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// peekSlowly is what peek promises, said with encoding/json.
func peekSlowly(wire []byte) (name string, ok bool) {
	var members map[string]json.RawMessage // exact keys, the last one counts
	if json.Unmarshal(wire, &members) != nil {
		return "", false
	}
	value := members[typeKey]
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &name) != nil {
		return "", false
	}
	return name, name != ""
}

// head returns the beginning of a wire form, up to and with next.
func head(name string, next byte) []byte {
	return append([]byte(`{"_type":"`+escaped(name)+`"`), next)
}

var namedTexts = map[string]string{
	`{"_type":"A"}`:                                                        "A",
	` { "_type" : "A" , "n" : 1 } `:                                        "A",
	"\t{\r\n\"n\": 1,\r\n\"_type\": \"A\"\r\n}\r\n":                        "A",
	`{"a":{"_type":"B"},"b":[{"_type":"C"}],"_type":"A"}`:                  "A",
	`{"a":"\"_type\":\"B\"","_type":"A"}`:                                  "A",
	`{"a":"\\","_type":"A"}`:                                               "A",
	`{"n":-0.5e+10,"t":true,"f":false,"z":null,"_type":"A","e":[],"o":{}}`: "A",
	`{"_type":"A","_type":"B"}`:                                            "B",
	`{"_type":3,"_type":"B"}`:                                              "B",
	`{"\u005ftype":"A"}`:                                                   "A",
	`{"\u005F\u0074\u0079\u0070\u0065":"A"}`:                               "A",
	`{"_type":"a\"b\\c\/\b\u00e4\ud83d\ude00"}`:                            "a\"b\\c/\bä\U0001F600",
	`{"_type":"ä"}`:                                                        "ä",
	`{"_type":"a` + "\xff" + `"}`:                                          "a\ufffd",
	`{"_type":"\ud800"}`:                                                   "\ufffd",
	`{"x":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + `,"_type":"A"}`: "A",
}

var namelessTexts = []string{
	``, ` `, `null`, `3`, `"_type"`, `[]`, `[{"_type":"A"}]`, `{}`, `{"_type":""}`, `{"_Type":"A"}`, `{"_TYPE":"A"}`, `{"type":"A"}`,
	`{"_type":null}`, `{"_type":3}`, `{"_type":["A"]}`, `{"_type":{"a":"A"}}`, `{"_type":"A","_type":null}`, `{"_type ":"A"}`,
	`{"_type":"A"`, `{"_type":"A"}}`, `{"_type":"A"}x`, `{"_type":"A",}`, `{,"_type":"A"}`, `{"_type":"A" "n":1}`, `{"_type" "A"}`,
	`{"_type":"A","n":01}`, `{"_type":"A","n":1.}`, `{"_type":"A","n":.5}`, `{"_type":"A","n":1e}`, `{"_type":"A","n":-}`, `{"_type":"A","n":+1}`,
	`{"_type":"A","n":NaN}`, `{"_type":"A","n":Infinity}`, `{"_type":"A","n":tru}`, `{"_type":"A","n":nul`, `{"_type":"A","n":}`,
	`{"_type":"A","n":[1,]}`, `{"_type":"A","n":[1 2]}`, `{"_type":"A","n":[`, `{"_type":"A","n":[1}`, `{"_type":"A","n":{"a"}}`,
	`{"_type":"A","n":"\x"}`, `{"_type":"A","n":"\u12"}`, `{"_type":"A","n":"\u12g4"}`, `{"_type":"A","n":"\`, `{"_type":"A","n":"` + "\n" + `"}`,
	`{"_type":"A`, `{"_type`, `{_type:"A"}`, `{'_type':'A'}`, "\ufeff" + `{"_type":"A"}`, `{"_type":"A"}{"_type":"B"}`,
	`{"_type":"A","x":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`,
	`{"_type":"A","x":` + strings.Repeat("[", 100_000),
	`{"_type":"A","x":` + strings.Repeat(`{"x":`, 100_000),
}

func TestPeek_FindsNameAnywhere(t *testing.T) {
	t.Parallel()
	for wire, want := range namedTexts {
		name, ok := peek([]byte(wire))
		require.True(t, ok, wire)
		require.Equal(t, want, string(name))
	}
}

func TestPeek_FindsNoMissingName(t *testing.T) {
	t.Parallel()
	for _, wire := range namelessTexts {
		name, ok := peek([]byte(wire))
		require.False(t, ok, wire)
		require.Empty(t, name)
	}
}

func TestPeek_DoesNotAllocate(t *testing.T) {
	_, wire, err := encode(benchValue)
	require.NoError(t, err)
	routes := map[string]int{"benchEvent": 1}
	require.Zero(t, testing.AllocsPerRun(100, func() {
		name, _ := peek(wire)
		if routes[string(name)] != 1 {
			t.Error("not found")
		}
	}))
}

func FuzzPeek_AgreesWithEncodingJSON(f *testing.F) {
	for _, wire := range append(slices.Collect(maps.Keys(namedTexts)), namelessTexts...) {
		if len(wire) < 1000 { // longer ones slow the fuzzer down
			f.Add([]byte(wire))
		}
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		before := string(wire)
		want, wantOK := peekSlowly(wire)
		name, ok := peek(wire)
		require.Equal(t, wantOK, ok)
		require.Equal(t, want, string(name))
		require.Equal(t, before, string(wire), "the text is only read")
	})
}
