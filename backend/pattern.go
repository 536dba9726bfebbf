package backend

import "strings"

// MaxPattern is how many bytes a pattern may have.
const MaxPattern = 255

// wildcards are what a pattern has in the place of text.
const wildcards = "*#"

// IsPattern reports whether topic is a pattern, or is like one that [CheckPattern] refuses, and so is the name of no
// topic: one of its segments, which dots divide, consists of nothing but the wildcards * and #, as in "orders.*", "#"
// and "**". "C#" is the name of a topic, and so is that of the dead letters of a pattern, such as "orders.*_dead".
func IsPattern(topic string) bool {
	if !strings.ContainsAny(topic, wildcards) || strings.HasSuffix(topic, DeadLetterSuffix) {
		return false
	}
	for segment := range strings.SplitSeq(topic, ".") {
		if segment != "" && strings.Trim(segment, wildcards) == "" {
			return true
		}
	}
	return false
}

// CheckPattern returns a *[RefusedError] if a group cannot subscribe to pattern. It can if a wildcard, * or #, is a
// segment by itself, each other segment has letters of ASCII, digits, _ and - only, and all of it has at most [MaxPattern]
// bytes and does not end with [DeadLetterSuffix]. PGMQ takes these, too.
func CheckPattern(pattern string) error {
	switch {
	case pattern == "":
		return refusedPattern("it is empty")
	case len(pattern) > MaxPattern:
		return refusedPattern(tooLong(len(pattern), MaxPattern))
	case strings.HasSuffix(pattern, DeadLetterSuffix):
		return refusedPattern("dead letters come to no group")
	}
	matches := false
	for segment := range strings.SplitSeq(pattern, ".") {
		switch {
		case segment == "":
			return refusedPattern("it has an empty segment")
		case segment == "*", segment == "#":
			matches = true
		case strings.ContainsAny(segment, wildcards):
			return refusedPattern("a * or # stands beside another character")
		case strings.ContainsFunc(segment, isNoPatternText):
			return refusedPattern("it has other characters than letters, digits, _ and -")
		}
	}
	if !matches {
		return refusedPattern("it has no * and no #")
	}
	return nil
}

func refusedPattern(reason string) error {
	return &RefusedError{
		What: "the pattern", Reason: reason,
		Remedy: `name segments with dots between them, of which one or more are * (one segment) or # (any text), as in "orders.*"`,
	}
}

func isNoPatternText(c rune) bool {
	lower := c | 0x20
	return (lower < 'a' || lower > 'z') && (c < '0' || c > '9') && c != '_' && c != '-'
}

// CheckPublishTopic is [CheckTopic] for a topic to publish to, which is not a pattern.
func CheckPublishTopic(topic string) error {
	if IsPattern(topic) {
		return &RefusedError{
			What: "the topic", Reason: "it is a pattern, which groups subscribe to", Remedy: "publish to a topic that the pattern matches",
		}
	}
	return CheckTopic(topic)
}

// MatchesPattern reports whether a message that is published to topic comes to the groups that have subscribed to
// pattern, which [CheckPattern] accepts. The * is one segment, and the # is any text, dots included, also none: "orders.#"
// matches "orders.eu.paid", and not "orders". This is PGMQ's meaning, not AMQP's. The topic counts as it is written,
// whatever characters it has. The dead letters of a topic, whose name ends with [DeadLetterSuffix], come to no group.
func MatchesPattern(pattern, topic string) bool {
	return !strings.HasSuffix(topic, DeadLetterSuffix) && matches(pattern, topic)
}

// matches looks for what stands before, between and behind the # of pattern, each as far left as it can be: what a *
// takes ends with its segment, so to go further right wins nothing.
func matches(pattern, topic string) bool {
	texts := strings.Split(pattern, "#")
	last := len(texts) - 1
	at := matchesUpTo(texts[0], topic)
	if last == 0 || at < 0 {
		return at == len(topic)
	}
	for _, text := range texts[1:last] {
		end := -1
		for ; end < 0; at++ {
			if at > len(topic) {
				return false
			}
			end = matchesUpTo(text, topic[at:])
		}
		at += end - 1
	}
	for ; at <= len(topic); at++ {
		if matchesUpTo(texts[last], topic[at:]) == len(topic)-at {
			return true
		}
	}
	return false
}

// matchesUpTo returns the end of what text, which has no #, matches at the beginning of topic, or -1.
func matchesUpTo(text, topic string) int {
	at := 0
	for i := range len(text) {
		if text[i] != '*' {
			if at == len(topic) || topic[at] != text[i] {
				return -1
			}
			at++
			continue
		}
		from := at
		for at < len(topic) && topic[at] != '.' {
			at++
		}
		if at == from {
			return -1
		}
	}
	return at
}
