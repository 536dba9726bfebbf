package jsonscan_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/jsonscan"
)

const deepest = 10_000 // as in encoding/json

var texts = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `""`, " \t\r\n{ } \n", `{"":""}`, `[{"a":[1,"b",null]},-0.5e+10]`, `"\"\\\/\b\f\n\r\t\u00e9\uD800"`,
	``, ` `, `{`, `}`, `[`, `"`, `"\`, `"\u12`, `"\u123g"`, `"\x"`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{,}`,
	`[1,]`, `[1 2]`, `[1}`, `tru`, `truee`, `NaN`, `-`, `+1`, `01`, `1.`, `.5`, `1e`, `1e+`, `{} {}`, "\"\n\"", "{}\x00", "\ufeff{}", "\"\xff\"",
	strings.Repeat("[", deepest) + strings.Repeat("]", deepest), strings.Repeat("[", deepest+1) + strings.Repeat("]", deepest+1),
	strings.Repeat(`{"a":`, deepest) + "1" + strings.Repeat("}", deepest), strings.Repeat(`{"a":`, deepest+1) + "1" + strings.Repeat("}", deepest+1),
}

func TestScanner_AgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, text := range texts {
		scanner := jsonscan.Scanner{Depth: deepest}
		require.Equal(t, json.Valid([]byte(text)), scanner.Valid([]byte(text)), "%.80s", text)
	}
}

func TestMember_ReportsOutermostObject(t *testing.T) {
	t.Parallel()
	var seen []string
	scanner := jsonscan.Scanner{Depth: 9, Member: func(key, value []byte) { seen = append(seen, string(key)+string(value)) }}
	require.True(t, scanner.Valid([]byte(` { "a" : {"b":1} , "\u0061":[{"c":2}], "a":"x" } `)))
	require.Equal(t, []string{`"a"{"b":1}`, `"\u0061"[{"c":2}]`, `"a""x"`}, seen)
	seen = nil
	require.True(t, scanner.Valid([]byte(`[{"a":1}]`)))
	require.Empty(t, seen)
}

func TestScanner_MayRefuseStringsAndNumbers(t *testing.T) {
	t.Parallel()
	text := []byte(`{"key":["text",-1.5e2]}`)
	for refused, want := range map[string]bool{`"key"`: false, `"text"`: false, `-1.5e2`: false, `"no"`: true, `1`: true} {
		decide := func(written []byte) bool { return string(written) != refused }
		scanner := jsonscan.Scanner{Depth: 9, String: decide, Number: decide}
		require.Equal(t, want, scanner.Valid(text), refused)
	}
}

func FuzzScanner_HasGrammarOfEncodingJSON(f *testing.F) {
	for _, text := range texts {
		if len(text) < 1000 { // longer ones slow the fuzzer down
			f.Add([]byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := string(text)
		scanner := jsonscan.Scanner{
			Depth:  deepest,
			Member: func(key, value []byte) { require.True(t, json.Valid(key) && json.Valid(value)) },
			String: func(written []byte) bool { return json.Valid(written) },
			Number: func(written []byte) bool { return json.Valid(written) },
		}
		require.Equal(t, json.Valid(text), scanner.Valid(text))
		require.Equal(t, before, string(text), "the text is only read")
	})
}
