package schema

import (
	"regexp"
	"slices"
)

// Grant is a privilege on something in the database, or if On is empty, a role of PostgreSQL.
type Grant struct{ Privileges, On string }

// SQL returns the statement that gives a role the grant. The role stands there as it is.
func (g Grant) SQL(role string) string {
	if g.On == "" {
		return "grant " + g.Privileges + " to " + role + ";"
	}
	return "grant " + g.Privileges + " on " + g.On + " to " + role + ";"
}

// Duty is what a role is for.
type Duty string

// The duties of roles, which docs/postgres.md explains.
const (
	Own       Duty = "own"       // creates, drops and tunes queues, and binds groups
	Publish   Duty = "publish"   // publishes with ezq
	Send      Duty = "send"      // publishes with PGMQ's functions
	Schedule  Duty = "schedule"  // publishes for the ticks of schedules
	Condition Duty = "condition" // publishes with IDs and keys
	Consume   Duty = "consume"   // handles messages, and dead-letters them
	Break     Duty = "break"     // consumes with a circuit breaker, which pauses the topic
	Prune     Duty = "prune"     // deletes what is old from the archive and the dead letters
	Operate   Duty = "operate"   // inspects and repairs
	Monitor   Duty = "monitor"   // sees how long queues are
	Support   Duty = "support"   // finds, cancels and moves single messages
)

// Topic is what grants are about: the queues of a topic, and that of its dead letters.
type Topic struct {
	Queues  []string // its own, those of groups, and those that are bound to it
	Dead    string
	Grouped bool // Queues are those of groups, which a consumer looks up
}

// Grants returns what a role needs for a duty, and no more.
func Grants(duty Duty, t Topic) []Grant {
	usage := Grant{"usage", "schema pgmq"}
	bindings := Grant{"select", "pgmq.topic_bindings"}
	meta := Grant{"select", "pgmq.meta"}
	switch duty {
	case Own:
		return []Grant{usage, {"create", "schema pgmq"}, meta, {"insert", "pgmq.meta"}, {"delete", "pgmq.meta"}, bindings, {"insert", "pgmq.topic_bindings"}}
	case Publish:
		return t.publish(usage, bindings)
	case Send:
		return append(t.publish(usage, bindings), t.each("q", "select (msg_id)")...)
	case Schedule:
		return append(t.publish(usage, bindings), on("q", Schedules, "select (msg_id, message)", "insert (msg_id, vt, message)", "update (message)")...)
	case Condition:
		return slices.Concat(t.publish(usage, bindings), []Grant{{"select, insert, update, delete", IDsTable}}, t.each("q", "select, update (vt, message, headers)"))
	case Consume:
		return t.consume(usage, bindings)
	case Break:
		return []Grant{{"insert, update", PausesTable}}
	case Prune:
		return slices.Concat(t.each("a", "update, delete"), on("q", t.Dead, "select, update, delete"))
	case Operate:
		return t.operate(usage, meta, bindings)
	case Monitor:
		return slices.Concat([]Grant{usage, meta}, t.each("q", "select (vt)"), on("q", t.Dead, "select (vt)"), on("q", Schedules, "select (vt)"),
			[]Grant{{"select", PausesTable}, {"pg_read_all_stats", ""}})
	case Support:
		return slices.Concat([]Grant{usage, bindings}, t.each("q", "select"), t.each("a", "select"), on("q", t.Dead, "select"), on("a", t.Dead, "select"),
			t.each("q", "update (vt), delete"))
	}
	return nil
}

func (t Topic) publish(usage, bindings Grant) []Grant {
	return append([]Grant{usage, bindings}, t.each("q", "insert (vt, message, headers)")...)
}

func (t Topic) consume(usage, bindings Grant) []Grant {
	grants := slices.Concat([]Grant{usage}, t.each("q", "select, update, delete"), on("q", t.Dead, "insert (vt, message, headers)"),
		t.each("a", "select, insert"), []Grant{{"select", PausesTable}})
	if t.Grouped {
		grants = append(grants, bindings)
	}
	return grants
}

func (t Topic) operate(usage, meta, bindings Grant) []Grant {
	return slices.Concat([]Grant{usage, meta, bindings},
		t.each("q", "select, update, delete"), t.each("q", "insert (vt, message, headers, last_read_at)"),
		on("q", t.Dead, "select, update, delete", "insert (vt, message, headers)"),
		t.each("a", "select, update, delete"), on("a", t.Dead, "select"),
		on("q", Schedules, "select (vt, msg_id, message), update (message)"),
		[]Grant{{"select, insert, update, delete", PausesTable}, {"pg_read_all_stats", ""}, {"pg_signal_backend", ""}})
}

// each returns grants on the table of each queue: "q" is that of its messages, "a" its archive.
func (t Topic) each(kind, privileges string) (grants []Grant) {
	for _, queue := range t.Queues {
		grants = append(grants, on(kind, queue, privileges)...)
	}
	return grants
}

func on(kind, queue string, privileges ...string) (grants []Grant) {
	name := kind + "_" + queue
	if !regexp.MustCompile(`^[a-z0-9_]+$`).MatchString(name) {
		name = Quoted(name)
	}
	for _, p := range privileges {
		grants = append(grants, Grant{p, "pgmq." + name})
	}
	return grants
}
