package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// command is what the arguments ask for.
type command struct {
	name    string
	topic   string   // of the dead letters
	from    []string // the topics whose letters are moved or deleted, if not that one
	most    int
	bounded bool // by -max
	payload bool
	all     bool
	show    bool // and move nothing
	yes     bool
	strays  bool
	limit   time.Duration
}

// patience is how long a command may take: a server that answers byte by byte, or not at
// all, shall not keep it.
const patience = time.Minute

// parse takes flags before and after the topic.
func parse(args []string) (c command, err error) {
	if len(args) == 0 {
		return c, errors.New("what shall be done?")
	}
	c.name = args[0]
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run reports the error
	in := ""
	switch c.name {
	case "queues":
	case "dead":
		flags.IntVar(&c.most, "max", 20, "")
		flags.BoolVar(&c.payload, "payload", false, "")
	case "redrive":
		flags.IntVar(&c.most, "max", 10, "")
		flags.BoolVar(&c.all, "all", false, "")
		flags.BoolVar(&c.show, "show", false, "")
		flags.Func("from", "", c.addFrom)
	case "purge-dead":
		flags.BoolVar(&c.yes, "yes", false, "")
		flags.BoolVar(&c.strays, "strays", false, "")
		flags.Func("from", "", c.addFrom)
	case "help", "-h", "-help", "--help":
		return c, flag.ErrHelp
	default:
		return c, unknown(c.name)
	}
	flags.DurationVar(&c.limit, "timeout", patience, "")
	if c.name != "queues" {
		flags.Func("in", "", func(topic string) error {
			in = topic
			return notEmpty(topic)
		})
	}
	var topics []string
	for args = args[1:]; ; args = flags.Args()[1:] {
		if err := flags.Parse(args); err != nil {
			return c, err
		}
		if flags.NArg() == 0 {
			break
		}
		topics = append(topics, flags.Arg(0))
	}
	flags.Visit(func(f *flag.Flag) { c.bounded = c.bounded || f.Name == "max" })
	c.topic = lettersOf(topics, in)
	return c, c.check(topics, in)
}

func (c *command) addFrom(topic string) error {
	c.from = append(c.from, topic)
	return notEmpty(topic)
}

func notEmpty(topic string) error {
	if topic == "" {
		return errors.New("it is empty")
	}
	return nil
}

func unknown(name string) error {
	if strings.HasPrefix(name, "-") {
		return errors.New("flags come after the command, as in: ezq-pgmq queues -timeout 10m")
	}
	return fmt.Errorf("there is no command %q", name)
}

func (c command) check(topics []string, in string) error {
	switch {
	case c.name == "queues" && len(topics) > 0:
		return fmt.Errorf("queues shows all queues, and takes no %q", topics[0])
	case c.name != "queues" && len(topics) == 0 && in == "":
		return fmt.Errorf("%s of which topic?", c.name)
	case slices.Contains(topics, ""):
		return fmt.Errorf("%s of which topic? what is given is empty", c.name)
	case len(topics) > 1:
		return fmt.Errorf("%s takes one topic, not %q", c.name, topics)
	case len(topics) > 0 && in != "":
		return fmt.Errorf("either a topic or -in: %q or %q?", topics[0], in)
	case c.most < 1 && (c.name == "dead" || c.name == "redrive"):
		return fmt.Errorf("-max is %d: set it to 1 or more", c.most)
	case c.all && c.bounded:
		return errors.New("either -all or -max")
	case c.strays && len(c.from) > 0:
		return errors.New("either -from or -strays, which deletes all that is there")
	case c.name == "purge-dead" && !c.strays && len(c.from) == 0 && !strings.HasSuffix(c.topic, suffix):
		return fmt.Errorf("whose dead letters? name their topics with -from, or delete all that is in %s with -strays%s", printable(c.topic), c.caution())
	case c.limit <= 0:
		return fmt.Errorf("-timeout is %v: set it to more than 0, as in 10m", c.limit)
	}
	return nil
}

// caution says what -strays can cost where the name of the queue does not say that it is one of dead
// letters.
func (c command) caution() string {
	if strings.HasSuffix(c.topic, suffix) {
		return ""
	}
	return ", also events that wait to be handled, if it is a queue in use"
}

const suffix = "_dead" // as middleware.Poison has it

func lettersOf(topics []string, in string) string {
	if in != "" || len(topics) == 0 {
		return in
	}
	return strings.TrimSuffix(topics[0], suffix) + suffix
}
