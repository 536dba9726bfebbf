package middleware

import (
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/ezq"
)

// recoverPanics turns a panic of next into an [ezq.PanicError]: for a policy about
// failures it is one like any other. An ezq router has done that already;
// Watermill's does it only outside of all middleware.
func recoverPanics(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) (out []*message.Message, err error) {
		defer func() {
			if v := recover(); v != nil {
				out, err = nil, &ezq.PanicError{Value: v, Stack: debug.Stack()}
			}
		}()
		return next(msg)
	}
}
