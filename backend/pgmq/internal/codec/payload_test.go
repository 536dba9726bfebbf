package codec

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/pgtest"
)

func declaredJSON() message.Metadata {
	return message.Metadata{contentTypeKey: "application/json"}
}

func TestPayload_IsStoredInPreservingForm(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, contentType, payload, stored, encoding string }{
		{"JSON with its content type is stored natively", "application/json", `{"a": 1}`, `{"a": 1}`, ""},
		{"a scalar with its content type is stored natively", "application/json", `"text"`, `"text"`, ""},
		{"JSON without a content type is text", "", `{"a": 1}`, `"{\"a\": 1}"`, "text"},
		{"JSON with another content type is text", "text/plain", `1`, `"1"`, "text"},
		{"invalid JSON with the content type is text", "application/json", `{`, `"{"`, "text"},
		{"JSON that jsonb cannot hold is text", "application/json", `"\u0000"`, `"\"\\u0000\""`, "text"},
		{"JSON that grows in jsonb is text", "application/json", `1e131071`, `"1e131071"`, "text"},
		{"UTF-8 is text", "", "ü\n\x01\x7f\u2028", "\"ü\\n\\u0001\x7f\u2028\"", "text"},
		{"an empty payload is text", "", "", `""`, "text"},
		{"an empty payload with the content type is text", "application/json", "", `""`, "text"},
		{"a NUL is base64", "", "a\x00b", `"YQBi"`, "base64"},
		{"a payload that is not UTF-8 is base64", "", "\xff", `"/w=="`, "base64"},
		{"a payload that is not UTF-8 is base64 with any content type", "application/json", "\"\xff\"", `"Iv8i"`, "base64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			stored, encoding := EncodePayload(message.Metadata{contentTypeKey: c.contentType}, []byte(c.payload))
			require.Equal(t, c.stored, stored)
			require.Equal(t, c.encoding, encoding)
		})
	}
}

func TestPayload_WithoutMetadataIsKept(t *testing.T) {
	t.Parallel()
	stored, encoding := EncodePayload(nil, nil)
	require.Equal(t, `""`, stored)
	payload, err := DecodePayload([]byte(stored), encoding)
	require.NoError(t, err)
	require.Empty(t, payload)
}

func TestContentType_DetectsJSON(t *testing.T) {
	t.Parallel()
	for contentType, want := range map[string]bool{
		"application/json":                  true,
		"Application/JSON":                  true,
		" application/json ":                true,
		"application/json; charset=utf-8":   true,
		"application/json;charset=UTF-8":    true,
		`application/json; charset="utf-8"`: true,
		"application/json; version=1":       true,
		"application/json;":                 true,
		"application/json; charset=latin1":  false,
		"application/json; charset":         false,
		"application/jsonl":                 false,
		"application/ld+json":               false,
		"text/json":                         false,
		"json":                              false,
		";":                                 false,
		"":                                  false,
	} {
		require.Equal(t, want, isJSON(contentType), contentType)
	}
}

func TestPayload_OfForeignMessageIsCompactJSON(t *testing.T) {
	t.Parallel()
	for stored, payload := range map[string]string{
		`{"_type": "UserCreated", "Email": "a, \"b\": c"}`: `{"_type":"UserCreated","Email":"a, \"b\": c"}`,
		`"text"`:                `"text"`,
		`null`:                  `null`,
		`[1, 2.50, {"a": " "}]`: `[1,2.50,{"a":" "}]`,
		`"ends in a \\"`:        `"ends in a \\"`,
	} {
		got, err := DecodePayload([]byte(stored), "")
		require.NoError(t, err)
		require.Equal(t, payload, string(got))
	}
}

func TestPayload_WhenUnreadableIsError(t *testing.T) {
	t.Parallel()
	_, err := DecodePayload(nil, "")
	require.ErrorIs(t, err, errNoPayload)
	_, err = DecodePayload(nil, encodingText)
	require.ErrorIs(t, err, errNoPayload)

	_, err = DecodePayload([]byte(`""`), "zstd")
	require.EqualError(t, err, `the header ezq_enc says "zstd", which this version does not know`)

	for _, stored := range []string{`{}`, `null`, `1`, ``, `"`, `"a`, `"\"`, `"\ud83d"`} {
		_, err = DecodePayload([]byte(stored), encodingText)
		require.ErrorIs(t, err, errNotEncoded, stored)
	}
	for _, stored := range []string{`{}`, `"a"`, `"****"`, `"YQ"`} {
		_, err = DecodePayload([]byte(stored), encodingBase64)
		require.ErrorIs(t, err, errNotEncoded, stored)
	}
}

func TestPayload_DecodedSharesNoMemory(t *testing.T) {
	t.Parallel()
	for encoding, stored := range map[string]string{encodingNative: `{"a":1}`, encodingText: `"text"`, encodingBase64: `"YQ=="`} {
		row := []byte(stored)
		payload, err := DecodePayload(row, encoding)
		require.NoError(t, err)
		before := bytes.Clone(payload)
		for i := range row {
			row[i] = 'x'
		}
		require.Equal(t, before, payload)
	}
}

func TestPayload_SurvivesPostgreSQL(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.EmptyDatabase(t))
	through := func(stored string) []byte {
		var text []byte
		require.NoError(t, pool.QueryRow(t.Context(), `select (t.v::jsonb)::text from unnest($1::text[]) t(v)`,
			pgx.QueryExecModeCacheDescribe, []string{stored}).Scan(&text), "%.80s", stored)
		return text
	}
	for _, text := range jsonbFits() {
		stored, encoding := EncodePayload(declaredJSON(), []byte(text))
		require.Empty(t, encoding, "%.80s", text)
		payload, err := DecodePayload(through(stored), encoding)
		require.NoError(t, err)
		requireSameJSON(t, text, string(payload))
		require.LessOrEqual(t, len(payload), 2*len(text)+NumberGrowth)
	}
	for _, payload := range []string{
		"", "text", `{"b": 1, "a": 2, "a": 3}`, "\"\\/\b\f\n\r\t\u2028ü😀\x01\x7f", "\x00", "\xff\xfe", `"\u0000"`, `1e131071`,
		strings.Repeat("[", 100_000), strings.Repeat("\x01\x00", 100_000),
	} {
		for _, metadata := range []message.Metadata{nil, declaredJSON()} {
			if fitsJSONB([]byte(payload)) && metadata != nil {
				continue
			}
			stored, encoding := EncodePayload(metadata, []byte(payload))
			got, err := DecodePayload(through(stored), encoding)
			require.NoError(t, err)
			require.Equal(t, payload, string(got))
		}
	}
}

// requireSameJSON compares numbers by their exact value.
func requireSameJSON(t *testing.T, want, got string) {
	t.Helper()
	decode := func(text string) any {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		var value any
		require.NoError(t, decoder.Decode(&value))
		return exact(t, value)
	}
	require.Equal(t, decode(want), decode(got))
}

func exact(t *testing.T, value any) any {
	t.Helper()
	switch value := value.(type) {
	case json.Number:
		number, ok := new(big.Rat).SetString(value.String())
		require.True(t, ok)
		return number.RatString()
	case []any:
		for i := range value {
			value[i] = exact(t, value[i])
		}
	case map[string]any:
		for key := range value {
			value[key] = exact(t, value[key])
		}
	}
	return value
}

func FuzzPayload_SurvivesEncoding(f *testing.F) {
	for _, text := range jsonbFits() {
		f.Add([]byte(text), "application/json")
	}
	f.Add([]byte("\x00\xff"), "")
	f.Add([]byte("ü\n\"\\"), "text/plain")
	f.Fuzz(func(t *testing.T, payload []byte, contentType string) {
		stored, encoding := EncodePayload(message.Metadata{contentTypeKey: contentType}, payload)
		require.True(t, fitsJSONB([]byte(stored)), "whatever is stored, PostgreSQL can hold")

		var indented bytes.Buffer // as another writer would write it
		require.NoError(t, json.Indent(&indented, []byte(stored), " ", "\t"))
		for _, stored := range [][]byte{[]byte(stored), indented.Bytes()} {
			got, err := DecodePayload(bytes.TrimSpace(stored), encoding)
			require.NoError(t, err)
			if encoding == encodingNative {
				var short bytes.Buffer
				require.NoError(t, json.Compact(&short, payload))
				require.Equal(t, short.String(), string(got))
				continue
			}
			require.Equal(t, string(payload), string(got))
		}
	})
}

func FuzzPayload_OfOthersIsReadAsStored(f *testing.F) {
	f.Add([]byte(`{"a": 1}`), "")
	f.Add([]byte(`"a\`), "text")
	f.Add([]byte(`"YQ=="`), "base64")
	f.Fuzz(func(t *testing.T, stored []byte, encoding string) {
		payload, err := DecodePayload(stored, encoding)
		if err == nil && encoding == encodingNative && json.Valid(stored) {
			require.JSONEq(t, string(stored), string(payload))
		}
	})
}

// PostgreSQL writes whole values; a proxy between them may cut one off.
func TestJSON_TruncatedIsNotReadBeyondEnd(t *testing.T) {
	t.Parallel()
	const whole = `{"key \" \\": "value of more than eight bytes \\ \" ", "b": [1, "\""]}`
	for end := range len(whole) {
		require.NotPanics(t, func() {
			_ = compact([]byte(whole[:end]))
			_ = (&Headers{Metadata: message.Metadata{}}).Decode([]byte(whole[:end]))
		}, whole[:end])
	}
	require.JSONEq(t, whole, string(compact([]byte(whole))))
}
