package codec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// jsonbFits is JSON that PostgreSQL stores and returns equal.
func jsonbFits() []string {
	return []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `""`, `"text"`, " \t\r\n{ } \n",
		`{"_type": "UserCreated", "Email": "ada@example.com", "Tags": ["a", 1, null, {"b": false}]}`,
		`{"":""}`, `{"a":{"a":{"a":[[[]]]}}}`,
		`"\"\\\/\b\f\n\r\t\u00e9\u0001\u001F\uFFFF\ud83d\ude00"`, `"ü注😀` + "\x7f\u2028" + `"`,
		`[1, 0.5, 1.10, 9007199254740993, 18446744073709551615, 123456789012345678901234567890.123456789]`,
		`[1e2, 1E+2, 2.5e-3, 5e-324, 1.7976931348623157e308, 0e0, 1e998, 1e-998]`,
		strings.Repeat("9", maxDigits), "0." + strings.Repeat("9", maxDigits-1),
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
		strings.Repeat(`{"a":`, maxDepth) + "1" + strings.Repeat("}", maxDepth),
		"[" + strings.Repeat("1e400,", 10) + "1]",
	}
}

func TestJSON_FittingJSONBIsAccepted(t *testing.T) {
	t.Parallel()
	for _, text := range jsonbFits() {
		require.True(t, fitsJSONB([]byte(text)), "%.80s", text)
		require.True(t, json.Valid([]byte(text)), "%.80s", text)
	}
}

func TestJSON_RefusedByPostgreSQLDoesNotFit(t *testing.T) {
	t.Parallel()
	for reason, text := range map[string]string{
		"NUL":                            `"\u0000"`,
		"NUL in a key":                   `{"a\u0000":1}`,
		"a high surrogate alone":         `"\ud83d"`,
		"a high surrogate before text":   `"\ud83dabcdefg"`,
		"two high surrogates":            `"\ud83d\ud83d"`,
		"a low surrogate":                `"\ude00"`,
		"surrogates the wrong way round": `"\ude00\ud83d"`,
		"not UTF-8":                      "\"\xff\"",
		"a surrogate in UTF-8":           "\"\xed\xa0\x80\"",
		"beyond numeric":                 `1e131072`,
		"beyond numeric, small":          `1e-16384`,
		"an exponent beyond int":         `1e99999999999999999999`,
		"131 kB in nine bytes":           `1e131071`,
		"1000 digits more than written":  `1e1000`,
		"too many digits":                strings.Repeat("9", maxDigits+1),
		"too many digits of a fraction":  "0." + strings.Repeat("9", maxDigits),
		"many large numbers":             "[" + strings.Repeat("1e400,", 100) + "1]",
		"many small numbers":             "[" + strings.Repeat("1e-400,", 100) + "1]",
		"many zeros":                     "[" + strings.Repeat("0e-400,", 100) + "1]",
		"too deep":                       strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		"too deep by far":                strings.Repeat("[", 1_000_000),
		"too deep, objects":              strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1),
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			require.False(t, fitsJSONB([]byte(text)))
		})
	}
}

func TestJSON_WhenInvalidDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `}`, `[`, `]`, `"`, `"\`, `"\u`, `"\u12`, `"\u123g"`, `"\x"`, `"\ud83d\`, `"\ud83d\u12`,
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{1:1}`, `{"a" 1}`, `{"a":1 "b":2}`, `{,}`, `{"a":1]`,
		`[1,]`, `[,]`, `[1 2]`, `[1}`, `tru`, `truee`, `nul`, `True`, `NaN`, `Infinity`, `undefined`,
		`-`, `+1`, `01`, `-01`, `1.`, `.5`, `1.e5`, `1e`, `1e+`, `0x10`, `1_000`, `--1`,
		`{} {}`, `1 2`, `{}x`, "\"\n\"", "\"\x1f\"", "\x00", "{}\x00", "\"\x00\"", "\ufeff{}", "\u00a0{}", `'a'`, `// a`,
	} {
		require.False(t, fitsJSONB([]byte(text)), text)
		require.False(t, json.Valid([]byte(text)), text)
	}
}

func FuzzFitsJSONB_AcceptsOnlyWhatPostgreSQLHolds(f *testing.F) {
	for _, text := range jsonbFits() {
		f.Add([]byte(text))
	}
	for _, text := range []string{`"\u0000"`, `"\ud83d"`, `1e1000`, `{"a":1,}`, `[1 2]`, "\"\xff\"", `{"a":tru}`} {
		f.Add([]byte(text))
	}
	exponent := regexp.MustCompile(`[eE][+-]?[0-9]{2}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		fits, valid := fitsJSONB(text), json.Valid(text)
		if fits {
			require.True(t, valid)
			require.True(t, utf8.Valid(text))
			var value any
			decoder := json.NewDecoder(bytes.NewReader(text))
			decoder.UseNumber()
			require.NoError(t, decoder.Decode(&value))
			require.NotContains(t, fmt.Sprintf("%q", value), `\x00`)
		}
		if valid && utf8.Valid(text) && len(text) < maxDepth && !exponent.Match(text) && !bytes.Contains(text, []byte(`\u`)) {
			require.True(t, fits)
		}
	})
}
