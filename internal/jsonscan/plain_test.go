package jsonscan_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/internal/jsonscan"
)

func plainOneByOne(text []byte) int {
	for i, c := range text {
		if c < ' ' || c == '"' || c == '\\' {
			return i
		}
	}
	return len(text)
}

// Each byte, beside each other one, at each place in and between two words of eight.
func TestPlain_EndsAtFirstOtherByte(t *testing.T) {
	t.Parallel()
	for length := range 18 {
		for at := range length {
			for c := range 256 {
				text := bytes.Repeat([]byte{'x'}, length)
				text[at] = byte(c)
				require.Equal(t, plainOneByOne(text), jsonscan.Plain(text), "%q", text)
				if at+1 == length {
					continue
				}
				for _, after := range []byte{0, 1, ' ' - 1, ' ', '!', '"', '#', '[', '\\', ']', 127, 128, 255} {
					text[at+1] = after
					require.Equal(t, plainOneByOne(text), jsonscan.Plain(text), "%q", text)
				}
			}
		}
	}
}

func FuzzPlain_AgreesWithLookAtEachByte(f *testing.F) {
	f.Add([]byte("plain text\x80\xff\" and more"))
	f.Fuzz(func(t *testing.T, text []byte) {
		require.Equal(t, plainOneByOne(text), jsonscan.Plain(text))
	})
}

// What it costs to look at an event of 256 bytes, and of 20 KiB.
func BenchmarkValid(b *testing.B) {
	for _, size := range []int{256, 20 << 10} {
		text := append([]byte(`{"_type":"UserCreated","ID":12345678,"Tags":["a","b"],"Note":"`), bytes.Repeat([]byte("x"), size-64)...)
		text = append(text, `"}`...)
		b.Run(fmt.Sprint(size, " bytes"), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				scanner := jsonscan.Scanner{Depth: deepest}
				if !scanner.Valid(text) {
					b.Fatal("it is not JSON")
				}
			}
		})
	}
}
