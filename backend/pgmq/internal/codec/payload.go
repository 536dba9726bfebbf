// Package codec turns messages into the two jsonb columns of a queue, message and headers, and back. What
// it encodes it decodes to the same message; it refuses what jsonb cannot hold, and reads what any other
// program may have written there.
package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/internal/jsonscan"
)

// How a payload is stored in the column message is marked in the headers, except
// for the form that all other programs use too: the payload as it is, as jsonb.
const (
	encodingNative = ""
	encodingText   = "text"   // a JSON string
	encodingBase64 = "base64" // a JSON string
)

// contentTypeKey is the metadata with which a message declares what it is.
const contentTypeKey = "content-type"

var (
	errNoPayload  = errors.New("the message is NULL")
	errNotEncoded = errors.New("the message is not what its header " + encodingKey + " says")
)

// EncodePayload returns payload as the text of a jsonb, and the encoding that
// DecodePayload needs.
//
// A message that declares the content type application/json is stored as what it
// is, so that SQL sees an object and not a string, if jsonb can hold it. Its
// receiver gets equal JSON, not the same bytes: jsonb drops white space, orders
// keys, of equal keys keeps the last, as encoding/json does, and writes 1e2 as
// 100 and -0 as 0. Any other payload is received byte for byte.
func EncodePayload(metadata message.Metadata, payload []byte) (json, encoding string) {
	if isJSON(metadata[contentTypeKey]) && fitsJSONB(payload) {
		return string(payload), encodingNative
	}
	if utf8.Valid(payload) && bytes.IndexByte(payload, 0) < 0 {
		return string(appendQuoted(make([]byte, 0, len(payload)+len(payload)/8+2), payload)), encodingText
	}
	quoted := make([]byte, 0, base64.StdEncoding.EncodedLen(len(payload))+2)
	quoted = append(quoted, '"')
	quoted = base64.StdEncoding.AppendEncode(quoted, payload)
	return string(append(quoted, '"')), encodingBase64
}

// EncodeJSON returns payload as the text of a jsonb, if it is JSON that jsonb can hold.
func EncodeJSON(payload []byte) (json string, ok bool) { return string(payload), fitsJSONB(payload) }

// isJSON reports whether contentType is application/json in UTF-8, the only
// encoding that JSON has between systems (RFC 8259, section 8.1).
func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	if !strings.ContainsRune(contentType, ';') {
		return strings.EqualFold(strings.TrimSpace(contentType), "application/json")
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	charset, given := parameters["charset"]
	return err == nil && media == "application/json" && (!given || strings.EqualFold(charset, "utf-8"))
}

// DecodePayload returns the payload of a message from the text of its jsonb, nil
// for SQL's NULL, in memory of its own. Without an encoding the payload is JSON,
// which it returns without the spaces that PostgreSQL puts into it.
//
// It returns errNoPayload for NULL, and an error if the message is not encoded
// as it is said to be, which only another program can have written.
func DecodePayload(json []byte, encoding string) ([]byte, error) {
	if json == nil {
		return nil, errNoPayload
	}
	switch encoding {
	case encodingNative:
		return compact(json), nil
	case encodingText, encodingBase64:
	default:
		return nil, fmt.Errorf("the header %s says %.40q, which this version does not know", encodingKey, encoding)
	}
	if len(json) < 2 || json[0] != '"' || json[len(json)-1] != '"' {
		return nil, errNotEncoded
	}
	quoted := json[1 : len(json)-1]
	if encoding == encodingText {
		text, ok := unquote(quoted)
		if !ok {
			return nil, errNotEncoded
		}
		return text, nil
	}
	payload, err := base64.StdEncoding.AppendDecode(nil, quoted)
	if err != nil {
		return nil, errNotEncoded
	}
	return payload, nil
}

// compact returns JSON without white space between its tokens.
func compact(json []byte) []byte {
	short := make([]byte, 0, len(json))
	done := 0
	for i := 0; i < len(json); i++ {
		switch c := json[i]; {
		case c == '"':
			i += tokenLength(json[i:]) - 1
		case c <= ' ':
			short = append(short, json[done:i]...)
			done = i + 1
		}
	}
	return append(short, json[done:]...)
}

// tokenLength returns the length of the string that json begins with, or 1 if it
// begins with anything else.
func tokenLength(json []byte) int {
	if json[0] != '"' {
		return 1
	}
	for i := 1; i < len(json); i++ {
		i += jsonscan.Plain(json[i:])
		switch {
		case i == len(json):
		case json[i] == '"':
			return i + 1
		case json[i] == '\\':
			i++
		}
	}
	return len(json)
}
