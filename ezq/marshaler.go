package ezq

import (
	"encoding/json"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// Marshaler lets Watermill's cqrs package speak ezq: it implements that package's
// CommandEventMarshaler. Buses with it publish what a [Router] handles, and event
// processors with it handle what [Publish] sends.
//
//	processor, err := cqrs.NewEventGroupProcessorWithConfig(router, cqrs.EventGroupProcessorConfig{
//		Marshaler: ezq.Marshaler{},
//		…
//
// The other way round, a Router understands what buses with cqrs.JSONMarshaler
// publish: if the payload of a message has no _type, its name is in the metadata
// "name". There it is the name with the package, unless the bus is told otherwise,
// so the handler needs it as an [Alias].
type Marshaler struct{}

// Marshal returns a message with v, under its name.
func (Marshaler) Marshal(v any) (*message.Message, error) {
	name, wire, err := encode(v)
	if err != nil {
		return nil, err
	}
	msg := message.NewMessage(watermill.NewUUID(), wire)
	msg.Metadata.Set(contentType, "application/json")
	msg.Metadata.Set(nameHeader, name)
	return msg, nil
}

// Unmarshal decodes msg into v. It fails with a *[DecodeError].
func (m Marshaler) Unmarshal(msg *message.Message, v any) error {
	if err := json.Unmarshal(msg.Payload, v); err != nil {
		return &DecodeError{Event: m.NameFromMessage(msg), Err: nameTimeField(v, msg.Payload, err)}
	}
	return nil
}

// Name returns the name under which v travels. It panics if v has none; see
// [EventName].
func (Marshaler) Name(v any) string {
	name, err := nameOfEvent(v)
	if err != nil {
		panic("ezq: " + err.Error())
	}
	return name
}

// NameFromMessage returns the name of the event in msg, or "", also if it has more than
// [backend.MaxName] bytes.
func (Marshaler) NameFromMessage(msg *message.Message) string {
	name, ok := peek(msg.Payload)
	if !ok {
		name = []byte(msg.Metadata.Get(nameHeader))
	}
	if len(name) > backend.MaxName {
		return ""
	}
	return string(name)
}
