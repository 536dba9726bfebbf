package command

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
)

// maxRead is how many bytes are read at once.
const maxRead = 1 << 16

// input reads from what may never end, until ctx ends: a read of a terminal or a pipe heeds neither a signal nor a timeout.
type input struct {
	ctx  context.Context
	from io.Reader
	cut  bool // it has ended with an error
}

// lines is a bufio.SplitFunc for lines. What stands behind the last one, where the input is cut, is no line: it may be
// a part of one.
func (i *input) lines(data []byte, atEnd bool) (advance int, line []byte, err error) {
	if atEnd && i.cut && bytes.IndexByte(data, '\n') < 0 {
		return 0, nil, nil
	}
	return bufio.ScanLines(data, atEnd)
}

// Read reads into a buffer of its own: a read that was given up may still write there.
func (i *input) Read(text []byte) (n int, err error) {
	defer func() { i.cut = err != nil && !errors.Is(err, io.EOF) }()
	type read struct {
		text []byte
		err  error
	}
	done := make(chan read, 1)
	go func() {
		buffer := make([]byte, min(len(text), maxRead))
		n, err := i.from.Read(buffer)
		done <- read{buffer[:n], err}
	}()
	select {
	case got := <-done:
		return copy(text, got.text), got.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}
