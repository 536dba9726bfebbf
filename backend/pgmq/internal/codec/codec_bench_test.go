package codec

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

// A JSON object of 256 bytes with two entries of metadata, one way and back.
func benchmarkMessage() (metadata message.Metadata, payload []byte) {
	text := fmt.Sprintf(`{"_type":"UserCreated","ID":12345678,"Email":"ada@example.com","Tags":["a","b"],"Note":"%s"}`,
		strings.Repeat("x", 256-92))
	return message.Metadata{contentTypeKey: "application/json", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}, []byte(text)
}

func BenchmarkEncode(b *testing.B) {
	metadata, payload := benchmarkMessage()
	for _, form := range []string{"application/json", "text/plain"} {
		metadata[contentTypeKey] = form
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				_, encoding := EncodePayload(metadata, payload)
				if _, err := EncodeHeaders("0b9e3f2e-6b1a-4f4e-9a53-3f0a7f5c1d2e", metadata, encoding); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	metadata, payload := benchmarkMessage()
	for _, form := range []string{"application/json", "text/plain"} {
		metadata[contentTypeKey] = form
		stored, encoding := EncodePayload(metadata, payload)
		headers, err := EncodeHeaders("0b9e3f2e-6b1a-4f4e-9a53-3f0a7f5c1d2e", metadata, encoding)
		if err != nil {
			b.Fatal(err)
		}
		row, rowHeaders := []byte(strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(stored)), []byte(headers)
		b.Run(form, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(payload)))
			for b.Loop() {
				decoded, err := decodeHeaders(rowHeaders)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := DecodePayload(row, decoded.Encoding); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
