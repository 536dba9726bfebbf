package terminal

import (
	"io"
	"io/fs"
	"os"
)

// Is reports whether stream, which is written to or read from, is a terminal.
func Is(stream any) bool {
	file, ok := stream.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&fs.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull) // is such a device too
	return err != nil || !os.SameFile(info, null)
}

// Style makes text stand out, or leaves it as it is: the zero Style, and that of anything but a terminal.
type Style struct{ colour bool }

// StyleOf returns the style of what is written to w: plain unless that is a terminal that has colours, and always if
// NO_COLOR is set and not empty. Lookup is as os.LookupEnv is.
func StyleOf(w io.Writer, lookup func(string) (string, bool)) Style {
	unwanted, _ := lookup("NO_COLOR")
	kind, _ := lookup("TERM")
	return Style{colour: unwanted == "" && kind != "dumb" && Is(w)}
}

// Bold is for what is read first.
func (s Style) Bold(text string) string { return s.wrap("1", text) }

// Dim is for what is read last.
func (s Style) Dim(text string) string { return s.wrap("2", text) }

// Red is for what is broken.
func (s Style) Red(text string) string { return s.wrap("31", text) }

// Yellow is for what may break.
func (s Style) Yellow(text string) string { return s.wrap("33", text) }

func (s Style) wrap(code, text string) string {
	if !s.colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
