package ezqtest

import (
	"context"
	"errors"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/ezq"
)

// Group returns a backend on the messages of a flow whose consumers have a group, so that they may subscribe to patterns too. client
// is what the build function of the flow gets:
//
//	build := func(client backend.Backend) *ezq.Router {
//		return audit.NewRouter(ezqtest.Group(client, "audit"))
//	}
//
// In [Run] it is a [memory.Broker] with that Group. In [RunOn] the backend needs a method
// InGroup(group string) (backend.Backend, error), unless it is a memory.Broker; without that, what is returned publishes and subscribes to nothing,
// with an error that matches [errors.ErrUnsupported], as it does if client is not that of a flow.
func Group(client backend.Backend, name string) backend.Backend {
	flow := recordingBackendOf(client)
	if flow == nil {
		return ungrouped{client, errNoFlow}
	}
	b, err := flow.inGroup(name)
	if err != nil {
		return ungrouped{client, err}
	}
	return b.client()
}

// AddRouter has a flow run another router beside the one that its build function returns, which calls it. The flow waits
// for both, and fails with either. With [Group] the two have groups of their own:
//
//	build := func(client backend.Backend) *ezq.Router {
//		audit := ezqtest.Group(client, "audit")
//		require.NoError(t, ezqtest.AddRouter(audit, newAudit(audit)))
//		return newBilling(ezqtest.Group(client, "billing"))
//	}
//
// client is the backend of the router. It is an error if that is not one of a flow, or its build function has returned.
func AddRouter(client backend.Backend, router *ezq.Router) error {
	flow := recordingBackendOf(client)
	switch {
	case flow == nil:
		return errNoFlow
	case !flow.add(router):
		return errors.New("ezqtest: the flow has begun: add its routers in the build function")
	}
	return nil
}

var errNoFlow = errors.New("ezqtest: the client is not that of a flow, which Run and RunOn give the build function")

// recordingBackendOf returns what is behind the client of a flow, or nil.
func recordingBackendOf(client backend.Backend) *recordingBackend {
	switch c := client.(type) {
	case steered:
		return c.recordingBackend
	case *recordingBackend:
		return c
	}
	return nil
}

// ungrouped is a backend that has no group where one was asked for.
type ungrouped struct {
	backend.Backend
	err error
}

// Publish implements [message.Publisher].
func (u ungrouped) Publish(string, ...*message.Message) error { return u.err }

// Subscribe implements [message.Subscriber].
func (u ungrouped) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	return nil, u.err
}
