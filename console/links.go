package console

import (
	"net/url"
	"strings"

	"github.com/ezq-go/ezq/backend"
)

// link returns a relative link with values: pairs of a name and a value, of which empty ones are left out.
func link(page string, pairs ...string) string {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	if len(query) == 0 {
		return page
	}
	return page + "?" + query.Encode()
}

// base returns the topic whose dead letters a topic has.
func base(topic string) (string, bool) {
	name, ok := strings.CutSuffix(topic, backend.DeadLetterSuffix)
	return name, ok && name != ""
}
