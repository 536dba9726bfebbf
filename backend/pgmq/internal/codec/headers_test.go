package codec

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq/internal/fault"
)

func TestHeaders_AreFlatObject(t *testing.T) {
	t.Parallel()
	headers, err := EncodeHeaders("id", message.Metadata{
		"tenant": "a", "x-pgmq-group": "7", "traceparent": "00-4bf9", "": "no name", "quoted\"": "ü\n",
	}, encodingText)
	require.NoError(t, err)
	require.JSONEq(t, `{"ezq_uuid": "id", "ezq_enc": "text", "tenant": "a", "x-pgmq-group": "7",
		"traceparent": "00-4bf9", "": "no name", "quoted\"": "ü\n"}`, headers)
}

func TestHeaders_OmitEmptyFields(t *testing.T) {
	t.Parallel()
	headers, err := EncodeHeaders("", nil, encodingNative)
	require.NoError(t, err)
	require.Equal(t, `{}`, headers)

	headers, err = EncodeHeaders("", message.Metadata{"a": "b"}, encodingNative)
	require.NoError(t, err)
	require.Equal(t, `{"a":"b"}`, headers)
}

func TestMetadata_RefusesUnstorableEntries(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, uuid, key, value, message string
	}{
		{"a reserved name", "", "ezq_uuid", "", `header "ezq_uuid": the name is reserved for ezq: choose one that does not begin with ezq_`},
		{"a name that may become one", "", "ezq_", "", `header "ezq_": the name is reserved for ezq: choose one that does not begin with ezq_`},
		{"a NUL in a key", "", "a\x00", "", `header "a\x00": the name is not UTF-8 without NUL: choose another one`},
		{"a key that is not UTF-8", "", "\xff", "", `header "\xff": the name is not UTF-8 without NUL: choose another one`},
		{"a NUL in a value", "", "a", "\x00", `header "a": the value is not UTF-8 without NUL: encode it, for example as base64, or put it into the payload`},
		{"a value that is not UTF-8", "", "a", "\xff", `header "a": the value is not UTF-8 without NUL: encode it, for example as base64, or put it into the payload`},
		{"a NUL in the UUID", "\x00", "a", "", `the UUID "\x00": it is not UTF-8 without NUL: use another one`},
		{"a long UUID", strings.Repeat("i", 256), "a", "", `the UUID: it has 256 bytes, and the limit is 255: use a shorter one, such as a digest of it`},
		{"much metadata", "", "a", strings.Repeat("v", 65528), `the headers: they have 65537 bytes, and the limit is 65536: put what is large into the payload`},
		{"metadata that becomes much", "", "a", strings.Repeat("\x01", 11_000), `the headers: they have 66009 bytes, and the limit is 65536: put what is large into the payload`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := EncodeHeaders(c.uuid, message.Metadata{c.key: c.value}, "")
			require.ErrorIs(t, err, fault.ErrInvalidMessage)
			require.EqualError(t, err, "pgmq: invalid message: "+c.message)
		})
	}
}

func TestHeaders_TolerateForeignValues(t *testing.T) {
	t.Parallel()
	none := message.Metadata{}
	for _, c := range []struct {
		name, text string
		want       Headers
	}{
		{"an object of strings is metadata", `{"a": "b", "c": ""}`, Headers{Metadata: message.Metadata{"a": "b", "c": ""}}},
		{"escapes are resolved", `{"\"\\": "\u00e9\n"}`, Headers{Metadata: message.Metadata{`"\`: "é\n"}}},
		{
			"other values are compact JSON", `{"n": 1.50, "t": true, "z": null, "o": {"a": [1, " }"]}, "l": [], "s": "b"}`,
			Headers{Metadata: message.Metadata{"n": "1.50", "t": "true", "z": "null", "o": `{"a":[1," }"]}`, "l": "[]", "s": "b"}},
		},
		{"an empty object is nothing", `{}`, Headers{Metadata: none}},
		{"an array is nothing", `["a", {"b": "c"}]`, Headers{Metadata: none}},
		{"a string is nothing", `"a"`, Headers{Metadata: none}},
		{"null is nothing", `null`, Headers{Metadata: none}},
		{"what ezq writes is not metadata", `{"ezq_enc": "text", "ezq_uuid": "id", "ezq_failures": 3}`, Headers{UUID: "id", Metadata: none, Encoding: "text", Failures: 3}},
		{"what is done is known", `{"ezq_done": ["a", "b\""]}`, Headers{Metadata: none, Done: []string{"a", `b"`}}},
		{"what is done is names", `{"ezq_done": [1]}`, Headers{Metadata: none}},
		{"what a later ezq writes is not metadata", `{"ezq_new": "a", "ezq_": {}}`, Headers{Metadata: none}},
		{"reserved names with other values are nothing", `{"ezq_enc": 1, "ezq_uuid": {}, "ezq_failures": "3"}`, Headers{Metadata: none}},
		{"many failures are many", `{"ezq_failures": 1` + strings.Repeat("0", 400) + `}`, Headers{Metadata: none, Failures: maxFailures}},
		{"a negative number of failures is none", `{"ezq_failures": -5}`, Headers{Metadata: none}},
		{"a boolean number of failures is none", `{"ezq_failures": true}`, Headers{Metadata: none}},
		{"a fraction of a failure does not count", `{"ezq_failures": 2.9}`, Headers{Metadata: none, Failures: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeHeaders([]byte(c.text))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestHeaders_WhenMissingAreEmptyMetadata(t *testing.T) {
	t.Parallel()
	got, err := decodeHeaders(nil)
	require.NoError(t, err)
	require.NotNil(t, got.Metadata)
	require.Empty(t, got.Metadata)
}

func TestHeaders_RefuseInvalidJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{`, `{"`, `{"a`, `{"a"`, `{"a":`, `{"a":"`, `{"a":"\"`, `{"a":"b"`, `{"a":"b",`, `{"a":"b",}`, `{"a":1`, `{"a":[1}`,
		`{a:1}`, `{"a" "b"}`, `{"a":"b" "c":"d"}`, `{"a":"\x"}`, `{,}`, `{"a":}`, `{"a":,"b":"c"}`,
	} {
		got, err := decodeHeaders([]byte(text))
		require.ErrorIs(t, err, errBadHeaders, text)
		require.NotNil(t, got.Metadata)
	}
}

func FuzzHeaders_SurviveEncoding(f *testing.F) {
	f.Add("id", "key", "value", "other", "\n\"\\", "text")
	f.Add("", "", "", "ezq_uuid", "", "")
	f.Add("\x00", "\xff", "ü", "a", "\u2028<", "base64")
	f.Fuzz(func(t *testing.T, uuid, key, value, other, otherValue, encoding string) {
		if !utf8.ValidString(encoding) || strings.Contains(encoding, "\x00") {
			return // it is never the user's
		}
		metadata := message.Metadata{key: value, other: otherValue}
		text, err := EncodeHeaders(uuid, metadata, encoding)
		if err != nil {
			require.ErrorIs(t, err, fault.ErrInvalidMessage)
			return
		}
		require.True(t, fitsJSONB([]byte(text)), "whatever is stored, PostgreSQL can hold")

		var object map[string]string // as another writer would write it
		require.NoError(t, json.Unmarshal([]byte(text), &object))
		for _, text := range [][]byte{[]byte(text), marshal(t, object)} {
			got, err := decodeHeaders(text)
			require.NoError(t, err)
			require.Equal(t, Headers{UUID: uuid, Metadata: metadata, Encoding: encoding}, got)
		}
	})
}

func FuzzHeaders_HaveNoReservedKeyOfOthers(f *testing.F) {
	for _, text := range []string{
		`{"a": "b", "n": 1, "o": {"a": [1]}, "ezq_failures": 3}`, `null`, `[]`, `{"a`, `{"a":[{]}`, `{"ezq_failures":nan}`, `{"a":"\ud83d"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := decodeHeaders(text)
		metadata := got.Metadata
		require.NotNil(t, metadata)
		require.GreaterOrEqual(t, got.Failures, 0)
		require.LessOrEqual(t, got.Failures, maxFailures)
		for key := range metadata {
			require.False(t, strings.HasPrefix(key, reservedPrefix))
		}
		if !fitsJSONB(text) {
			return // PostgreSQL would not have written it
		}
		require.NoError(t, err)
		var object map[string]any
		if json.Unmarshal(text, &object) != nil {
			require.Empty(t, metadata)
			return
		}
		maps.DeleteFunc(object, func(key string, _ any) bool { return strings.HasPrefix(key, reservedPrefix) })
		require.Len(t, metadata, len(object))
		for key, value := range object {
			if text, ok := value.(string); ok {
				require.Equal(t, text, metadata[key])
			}
		}
	})
}

func TestCodec_RoundTripsMessage(t *testing.T) {
	t.Parallel()
	for i, payload := range []string{"", "text", `{"a":1}`, "\x00"} {
		metadata := message.Metadata{contentTypeKey: "application/json", "tenant": "a"}
		stored, encoding := EncodePayload(metadata, []byte(payload))
		text, err := EncodeHeaders(fmt.Sprint(i), metadata, encoding)
		require.NoError(t, err)

		headers, err := decodeHeaders([]byte(text))
		require.NoError(t, err)
		got, err := DecodePayload([]byte(stored), headers.Encoding)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint(i), headers.UUID)
		require.Equal(t, metadata, headers.Metadata)
		require.Equal(t, payload, string(got))
	}
}

func TestError_IdentifiesRefusedMessage(t *testing.T) {
	t.Parallel()
	_, err := EncodeHeaders("", message.Metadata{"ezq_enc": "text"}, "")
	var e *fault.Error
	require.True(t, errors.As(fault.Classify("publish", "orders", err), &e))
	require.Equal(t, "publish", e.Op)
	require.Equal(t, "orders", e.Topic)
	require.Equal(t, fault.ErrInvalidMessage, e.Kind)
}

func decodeHeaders(text []byte) (Headers, error) {
	h := Headers{Metadata: message.Metadata{}}
	err := h.Decode(text)
	return h, err
}
