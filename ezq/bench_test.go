package ezq

import (
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
)

type benchEvent struct {
	ID      int64
	Email   string
	Tags    []string
	Comment string
}

type benchNamed struct{ benchEvent }

func (benchNamed) EventName() string { return "bench.named" }

type benchPointerNamed struct{ benchEvent }

func (*benchPointerNamed) EventName() string { return "bench.pointer" }

var benchValue = benchEvent{ID: 1, Email: "ada@example.com", Tags: []string{"a", "b"}, Comment: strings.Repeat("x", 100)}

type discard struct{}

func (discard) Publish(string, ...*message.Message) error { return nil }
func (discard) Close() error                              { return nil }

func BenchmarkNameOfEvent(b *testing.B) {
	for name, event := range map[string]any{
		"go name":              benchValue,
		"go name, pointer":     &benchValue,
		"EventName":            benchNamed{benchValue},
		"EventName of pointer": &benchPointerNamed{benchValue},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = nameOfEvent(event)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	var event any = benchValue
	b.ReportAllocs()
	for b.Loop() {
		_, _, _ = encode(event)
	}
}

func BenchmarkPeek(b *testing.B) {
	_, wire, _ := encode(benchValue)
	first, last := wire, []byte(`{"Email":"ada@example.com","Comment":"`+strings.Repeat("x", 4096)+`","_type":"benchEvent"}`)
	for name, wire := range map[string][]byte{"200 bytes": first, "4 KiB": last} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(wire)))
			for b.Loop() {
				_, _ = peek(wire)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	_, wire, _ := encode(benchValue)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = decode[benchEvent]("benchEvent", wire)
	}
}

func BenchmarkPublish(b *testing.B) {
	var event any = benchValue
	b.ReportAllocs()
	for b.Loop() {
		_ = Publish(b.Context(), discard{}, event)
	}
}

func BenchmarkPublishBatch(b *testing.B) {
	events := make([]benchEvent, 100)
	for i := range events {
		events[i] = benchValue
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = PublishBatch(b.Context(), discard{}, events)
	}
}
