package backend

import "fmt"

// UnknownOutcomeError says that a change was sent to the backend, and that the answer is lost, as when the connection
// broke or the context ended meanwhile: it is made as a whole, or not at all. Look before you make it again. What the
// call returns besides is certain.
type UnknownOutcomeError struct {
	Most int // how many messages it is about at most; 0 if that is not known, or it is about none
}

func (e *UnknownOutcomeError) Error() string {
	switch e.Most {
	case 0:
		return "it is unknown whether it was done"
	case 1:
		return "it is unknown whether it was done, for one message"
	}
	return fmt.Sprintf("it is unknown whether it was done, for %d messages at most", e.Most)
}

// MarshalText returns what Error does.
func (e *UnknownOutcomeError) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }
