package conformance_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// storing returns the flaw of storing messages otherwise than they were published.
func storing(change func(*message.Message)) fault {
	return fault{publish: func(p *process, topic string, msgs []*message.Message) error {
		stored := make([]*message.Message, len(msgs))
		for i, msg := range msgs {
			stored[i] = msg.CopyWithContext()
			change(stored[i])
		}
		return p.store(topic, stored...)
	}}
}

func payloadMutants() []mutant {
	return []mutant{
		{
			name:     "payloads are text",
			breaks:   "bytes that are not UTF-8 are replaced",
			killedBy: []string{"payload/any bytes"},
			fault: storing(func(msg *message.Message) {
				msg.Payload = []byte(strings.ToValidUTF8(string(msg.Payload), "�"))
			}),
		},
		{
			name:     "payloads end with NUL",
			breaks:   "what comes after the first NUL is lost",
			killedBy: []string{"payload/any bytes"},
			fault: storing(func(msg *message.Message) {
				text, _, _ := strings.Cut(string(msg.Payload), "\x00")
				msg.Payload = []byte(text)
			}),
		},
		{
			name:     "payloads are cut",
			breaks:   "what comes after 64 KiB is lost",
			killedBy: []string{"payload/large"},
			fault:    storing(func(msg *message.Message) { msg.Payload = msg.Payload[:min(len(msg.Payload), 64<<10)] }),
		},
		{
			name:     "nothing is null",
			breaks:   "an empty payload arrives as null",
			killedBy: []string{"payload/no bytes"},
			fault: storing(func(msg *message.Message) {
				if len(msg.Payload) == 0 {
					msg.Payload = []byte("null")
				}
			}),
		},
		{
			name:     "JSON is written anew",
			breaks:   "a payload that is JSON is decoded and encoded",
			killedBy: []string{"payload/JSON stays as it was written"},
			fault: storing(func(msg *message.Message) {
				var value any
				if json.Unmarshal(msg.Payload, &value) == nil {
					msg.Payload, _ = json.Marshal(value)
				}
			}),
		},
		{
			name:     "the publisher's bytes are stored",
			breaks:   "the publisher can change what is stored",
			killedBy: []string{"delivery/what is stored cannot be changed"},
			fault: fault{
				publish: func(p *process, topic string, msgs []*message.Message) error {
					for _, msg := range msgs {
						p.swapPayload(msg.UUID, msg.Payload)
					}
					return p.store(topic, msgs...)
				},
				interception: interception{deliver: func(d *delivery) bool {
					d.handed.Payload = d.swapPayload(d.msg.UUID, nil)
					d.swapPayload(d.msg.UUID, d.handed.Payload)
					return true
				}},
			},
		},
		{
			name:     "what comes back is the consumer's",
			breaks:   "a consumer can change what is delivered next",
			killedBy: []string{"delivery/what is stored cannot be changed"},
			fault: fault{interception: interception{deliver: func(d *delivery) bool {
				if before := d.swapPayload(d.msg.UUID, d.handed.Payload); before != nil {
					d.handed.Payload = before
					d.swapPayload(d.msg.UUID, before)
				}
				return true
			}}},
		},
	}
}

func metadataMutants() []mutant {
	return []mutant{
		{
			name:     "metadata are lost",
			breaks:   "a message arrives without its metadata",
			killedBy: []string{"delivery/what is published arrives", "transactions/what is committed arrives"},
			fault:    storing(func(msg *message.Message) { clear(msg.Metadata) }),
		},
		{
			name:     "metadata without a value are lost",
			breaks:   "a key whose value is empty does not arrive",
			killedBy: []string{"delivery/what is published arrives"},
			fault: storing(func(msg *message.Message) {
				maps.DeleteFunc(msg.Metadata, func(_, value string) bool { return value == "" })
			}),
		},
		{
			name:     "only the program's own metadata is kept",
			breaks:   "metadata whose key begins with x- does not arrive",
			killedBy: []string{"router and dead letters/an expired event is a dead letter"},
			fault: storing(func(msg *message.Message) {
				maps.DeleteFunc(msg.Metadata, func(key, _ string) bool { return strings.HasPrefix(key, "x-") })
			}),
		},
		{
			name:     "keys are folded",
			breaks:   "the keys of metadata arrive in lower case",
			killedBy: []string{"payload/any text in metadata"},
			fault: storing(func(msg *message.Message) {
				for key, value := range maps.Clone(msg.Metadata) {
					delete(msg.Metadata, key)
					msg.Metadata[strings.ToLower(key)] = value
				}
			}),
		},
		{
			name:     "metadata are a header",
			breaks:   "spaces around the values of metadata are lost",
			killedBy: []string{"payload/any text in metadata"},
			fault: storing(func(msg *message.Message) {
				for key, value := range msg.Metadata {
					msg.Metadata[key] = strings.Trim(value, " ")
				}
			}),
		},
		{
			name:     "metadata are 64 pairs at most",
			breaks:   "what is more is dropped",
			killedBy: []string{"payload/many metadata"},
			fault: storing(func(msg *message.Message) {
				for i, key := range slices.Sorted(maps.Keys(msg.Metadata)) {
					if i >= 64 {
						delete(msg.Metadata, key)
					}
				}
			}),
		},
		{
			name:     "metadata are text",
			breaks:   "metadata that are not UTF-8 are repaired, instead of kept or refused",
			killedBy: []string{"hostile input/odd metadata"},
			fault: storing(func(msg *message.Message) {
				for key, value := range msg.Metadata {
					msg.Metadata[key] = strings.ToValidUTF8(value, "")
				}
			}),
		},
		{
			name:     "nil metadata are written to",
			breaks:   "Publish panics if a message has no Metadata",
			killedBy: []string{"hostile input/no metadata at all"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				for _, msg := range msgs {
					msg.Metadata["published"] = "1"
					defer delete(msg.Metadata, "published")
				}
				return p.store(topic, msgs...)
			}},
		},
		{
			name:     "a refusal is for ever",
			breaks:   "after a message that cannot be stored, the publisher stores no other",
			killedBy: []string{"hostile input/what is refused does not hold up the rest"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				for _, msg := range msgs {
					for key := range msg.Metadata {
						if strings.Contains(key, "\x00") {
							p.increment("refused")
						}
					}
				}
				if p.count("refused") > 0 {
					return errors.New("the transaction is aborted")
				}
				return p.store(topic, msgs...)
			}},
		},
	}
}

func identityMutants() []mutant {
	return []mutant{
		{
			name:     "ids are the backend's",
			breaks:   "a message arrives with another id",
			killedBy: []string{"delivery/what is published arrives", "payload/the id is the publisher's"},
			fault:    storing(func(msg *message.Message) { msg.UUID = uuid.NewString() }),
		},
		{
			name:     "ids are unique",
			breaks:   "a message is dropped if another one had its id",
			killedBy: []string{"payload/the id is the publisher's"},
			fault: fault{publish: func(p *process, topic string, msgs []*message.Message) error {
				var stored []*message.Message
				for _, msg := range msgs {
					if p.increment("id "+msg.UUID) == 1 {
						stored = append(stored, msg)
					}
				}
				return p.store(topic, stored...)
			}},
		},
		{
			name:     "ids are cut",
			breaks:   "an id has 255 bytes at most, and the rest is lost without an error",
			killedBy: []string{"hostile input/an odd id"},
			fault:    storing(func(msg *message.Message) { msg.UUID = msg.UUID[:min(len(msg.UUID), 255)] }),
		},
	}
}
