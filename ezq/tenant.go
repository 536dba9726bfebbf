package ezq

import (
	"fmt"
	"strings"
)

// TopicOf returns the topic of something that is not named by the program, such as a tenant
// or a room: kind is the program's word for what it is, and id which one.
//
//	ezq.Publish(ctx, client, event, ezq.Topic(ezq.TopicOf("tenant", tenant)))
//
// No two ids, of one kind or of two, have the same topic, and none has the dead-letter
// topic of another one, whatever the ids are. An id of lower-case letters and digits is
// shown as it is: "tenant_acme". Any other byte becomes an underscore and two letters from g
// to v; and so does the first one of the id "dead". Topics that the program names itself
// must not begin with the kind and an underscore.
//
// An id of more than 250 bytes, or of more than 80 that are all such bytes, can make a
// topic that is refused. TopicOf panics if kind is not of lower-case letters and digits,
// beginning with a letter, or is longer than 20 bytes.
func TopicOf(kind, id string) string {
	if kind == "" || len(kind) > 20 || kind[0] <= '9' || strings.ContainsFunc(kind, func(r rune) bool { return !isPlain(r) }) {
		panic(fmt.Sprintf("ezq: TopicOf: the kind %q is not of lower-case letters and digits, beginning with a letter: use a word like \"tenant\"", kind))
	}
	var topic strings.Builder
	topic.Grow(len(kind) + 1 + len(id))
	topic.WriteString(kind + "_")
	for i := range len(id) {
		if c := id[i]; isPlain(rune(c)) && (i > 0 || id != "dead") {
			topic.WriteByte(c)
		} else {
			topic.Write([]byte{'_', 'g' + c>>4, 'g' + c&0xf})
		}
	}
	return topic.String()
}

func isPlain(r rune) bool { return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' }
