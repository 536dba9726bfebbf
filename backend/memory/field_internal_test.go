package memory

import (
	"bytes"
	"encoding/json"
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestField_IsInHostileBodiesAtNoCost(t *testing.T) {
	t.Parallel()
	seven := newField("order.id", 7)
	require.True(t, seven.isIn([]byte(`{"order":{"id":0.7e+1}}`)))
	require.True(t, seven.isIn([]byte(`{"text":"\\u0000","order":{"id":7}}`)), "no NUL, but a backslash")
	for name, body := range map[string]string{
		"nothing":              "",
		"no JSON":              `{"order":{"id":7}`,
		"NUL":                  `{"order":{"id":7},"text":"\u0000"}`,
		"not UTF-8":            "{\"order\":{\"id\":7},\"text\":\"\xff\"}",
		"deep":                 `{"deep":` + strings.Repeat("[", 1e6) + strings.Repeat("]", 1e6) + `,"order":{"id":7}}`,
		"a gigabyte of digits": `{"order":{"id":7e1000000000}}`,
		"an endless exponent":  `{"order":{"id":7e99999999999999999999999999}}`,
		"a tiny number":        `{"order":{"id":7e-99999999999999999999999999}}`,
	} {
		require.False(t, seven.isIn([]byte(body)), name)
	}
	zero := newField("n", 0)
	for _, body := range []string{`{"n":0}`, `{"n":-0.000}`, `{"n":0e99999999999999999999}`} {
		require.True(t, zero.isIn([]byte(body)), body)
	}
}

// decoded is the reference: encoding/json decodes all of it, and numbers are computed.
func decoded(body []byte, path []string, want []byte) bool {
	decode := func(text []byte) (v any) {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		_ = d.Decode(&v)
		return v
	}
	value := decode(body)
	for _, name := range path {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	wanted := decode(want)
	number, isNumber := value.(json.Number)
	other, isOther := wanted.(json.Number)
	if isNumber && isOther {
		a, aok := new(big.Rat).SetString(number.String())
		b, bok := new(big.Rat).SetString(other.String())
		return aok && bok && a.Cmp(b) == 0
	}
	switch value.(type) {
	case string, bool:
		return value == wanted
	}
	return false
}

var largeExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4}`)

func FuzzField_AgreesWithEncodingJSON(f *testing.F) {
	for _, body := range []string{`{"a":{"b":1}}`, `{"a":{"b":"x"},"a":{"b":true}}`, `{"a":[{"b":1}]}`, `[{"a":1}]`, `{"\u0061":{"b":1e2}}`, `{"a":{"b":-0.10}}`, `{"a":null}`, ` { "a" : { "b" : "\u00e4" } } `} {
		f.Add([]byte(body), "a.b", `100`)
		f.Add([]byte(body), "a.b", `"x"`)
		f.Add([]byte(body), "a", `-1e-1`)
	}
	f.Fuzz(func(t *testing.T, body []byte, path, equals string) {
		if !json.Valid([]byte(equals)) || largeExponent.MatchString(string(body)+" "+equals) {
			t.Skip() // the reference computes numbers, which may have a gigabyte
		}
		field := newField(path, json.RawMessage(equals))
		if field == nil || !json.Valid(body) || bytes.Contains(body, []byte("\\u0000")) || !bytes.Equal(bytes.ToValidUTF8(body, nil), body) {
			return
		}
		require.Equal(t, decoded(body, field.path, []byte(equals)), field.isIn(body))
	})
}
