package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
)

// command is what the arguments ask for.
type command struct {
	name    string
	topic   string   // that of the dead letters; or what is paused; or the name of a schedule
	from    []string // the topics whose dead letters are moved or deleted, if not that one
	max     int
	bounded bool // by -max
	payload bool
	limit   int // how many bytes of a payload
	all     bool
	show    bool // and move nothing
	yes     bool
	strays  bool
	timeout time.Duration

	selection backend.DeadLetterSelection // which dead letters, the topics and the limit aside
	counts    bool                        // and list none
	json      bool
	file      string // of an edit

	group, by, reason string // of a pause
	duration          time.Duration

	single  backend.Selection // which messages to find, cancel or reschedule
	running bool              // cancel those that are being handled, too
	at      time.Time         // to which they are rescheduled
	delay   *time.Duration    // or after which

	fail pgmq.Severity // of the doctor: from which on its exit code is 1
}

// defaultTimeout is how long a command may take: a server that answers byte by byte, or not at
// all, shall not keep it.
const defaultTimeout = time.Minute

// parse takes flags before and after the topic.
func parse(args []string) (c command, err error) {
	if len(args) == 0 {
		return c, errors.New("missing command")
	}
	c.name = args[0]
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run reports the error
	if err := c.defineFlags(flags); err != nil {
		return c, err
	}
	in := ""
	c.timeout = defaultTimeout
	flags.Func("timeout", "", c.setTimeout)
	if c.isAboutDeadLetters() {
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
	if c.isAboutDeadLetters() {
		c.topic = deadLetterTopic(topics, in)
	} else if len(topics) > 0 {
		c.topic = topics[0]
	}
	return c, c.check(topics, in)
}

// defineFlags defines the flags of the command that are not those of all.
func (c *command) defineFlags(flags *flag.FlagSet) error {
	switch c.name {
	case "queues", "schedules", "resume-schedule":
	case "doctor":
		flags.BoolVar(&c.json, "json", false, "")
		flags.TextVar(&c.fail, "fail", pgmq.SeverityFailure, "")
	case "dead":
		flags.IntVar(&c.max, "max", 20, "")
		flags.BoolVar(&c.payload, "payload", false, "")
		flags.IntVar(&c.limit, "payload-limit", 64<<10, "")
		flags.BoolVar(&c.counts, "count", false, "")
		flags.BoolVar(&c.json, "json", false, "")
		flags.Int64Var(&c.selection.After, "after", 0, "")
		flags.Func("from", "", c.addFrom)
		c.defineSelection(flags)
	case "redrive":
		flags.IntVar(&c.max, "max", 10, "")
		flags.BoolVar(&c.all, "all", false, "")
		flags.BoolVar(&c.show, "show", false, "")
		flags.Func("from", "", c.addFrom)
		c.defineSelection(flags)
	case "purge-dead":
		flags.BoolVar(&c.yes, "yes", false, "")
		flags.BoolVar(&c.strays, "strays", false, "")
		flags.Func("from", "", c.addFrom)
		c.defineSelection(flags)
	case "edit-dead":
		flags.StringVar(&c.by, "by", userName(), "")
		flags.StringVar(&c.file, "file", "", "")
	case "pause", "pause-schedule":
		flags.StringVar(&c.by, "by", userName(), "")
		flags.StringVar(&c.reason, "reason", "", "")
		flags.DurationVar(&c.duration, "for", 0, "")
		if c.name == "pause" {
			flags.StringVar(&c.group, "group", "", "")
		}
	case "resume":
		flags.StringVar(&c.group, "group", "", "")
	case "find", "cancel", "reschedule":
		c.defineSingle(flags)
	case "help", "-h", "-help", "--help":
		return flag.ErrHelp
	default:
		return unknownCommand(c.name)
	}
	return nil
}

// defineSelection defines the flags that select dead letters.
func (c *command) defineSelection(flags *flag.FlagSet) {
	s := &c.selection
	flags.StringVar(&s.ID, "id", "", "")
	flags.StringVar(&s.Handler, "handler", "", "")
	flags.StringVar(&s.Reason, "reason", "", "")
	flags.StringVar(&s.Event, "event", "", "")
	flags.StringVar(&s.Group, "group", "", "")
	flags.Func("row", "", func(text string) error {
		row, err := strconv.ParseInt(text, 10, 64)
		s.Rows = append(s.Rows, row)
		return err
	})
	flags.Func("header", "", headerFlag(&s.Header, &s.Value))
	flags.Func("field", "", fieldFlag(&s.Field, &s.Equals))
	flags.Func("older", "", func(text string) (err error) {
		s.To, err = parseAge(text)
		return err
	})
	flags.Func("newer", "", func(text string) (err error) {
		s.From, err = parseAge(text)
		return err
	})
}

// defineSingle defines the flags that select single messages, and say what becomes of them.
func (c *command) defineSingle(flags *flag.FlagSet) {
	flags.StringVar(&c.single.ID, "id", "", "")
	flags.StringVar(&c.single.UniqueKey, "key", "", "")
	switch c.name {
	case "find":
		flags.StringVar(&c.single.Event, "event", "", "")
		flags.Func("header", "", headerFlag(&c.single.Header, &c.single.Value))
		flags.Func("field", "", fieldFlag(&c.single.Field, &c.single.Equals))
		flags.IntVar(&c.max, "max", 20, "")
		flags.BoolVar(&c.payload, "payload", false, "")
	case "cancel":
		flags.BoolVar(&c.running, "running", false, "")
	case "reschedule":
		flags.Func("at", "", func(text string) (err error) {
			if c.at, err = time.Parse(time.RFC3339, text); err != nil {
				err = errors.New("write it as in 2027-01-31T09:00:00Z")
			}
			return err
		})
		flags.Func("delay", "", func(text string) error {
			delay, err := time.ParseDuration(text)
			if c.delay = &delay; err != nil || delay < 0 {
				return errors.New("write it with its unit, as in 90m, or 0s for at once")
			}
			return nil
		})
	}
}

// headerFlag returns what reads a header and its value.
func headerFlag(name, value *string) func(string) error {
	return func(text string) error {
		var ok bool
		if *name, *value, ok = strings.Cut(text, "="); !ok || *name == "" {
			return errors.New("write it with its value, as in tenant=a")
		}
		return nil
	}
}

// fieldFlag returns what reads the path to a field and its value, which is JSON, or else a text.
func fieldFlag(path *string, value *any) func(string) error {
	return func(text string) error {
		name, written, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return errors.New("write it with its value, as in order.id=7")
		}
		*path, *value = name, written
		if raw := json.RawMessage(written); json.Valid(raw) {
			*value = raw
		}
		return nil
	}
}

// isSelective reports whether not all dead letters of the topics are meant.
func (c *command) isSelective() bool {
	s := c.selection
	return len(s.Rows) > 0 || s.ID+s.Handler+s.Reason+s.Event+s.Group+s.Header+s.Field != "" || !s.From.IsZero() || !s.To.IsZero()
}

// selected returns which dead letters are meant, with a limit.
func (c *command) selected(limit int) backend.DeadLetterSelection {
	s := c.selection
	s.Topics, s.Limit = c.from, limit
	return s
}

// topics returns those whose dead letters are moved or deleted.
func (c *command) topics() []string {
	if len(c.from) > 0 {
		return c.from
	}
	return []string{strings.TrimSuffix(c.topic, backend.DeadLetterSuffix)}
}

// isAboutDeadLetters reports whether the topic that is named is that of dead letters.
func (c *command) isAboutDeadLetters() bool {
	return c.name == "dead" || c.name == "redrive" || c.name == "purge-dead" || c.name == "edit-dead"
}

// userName returns the name of the user of the machine, or "".
func userName() string {
	if current, err := user.Current(); err == nil {
		return current.Username
	}
	return ""
}

func (c *command) addFrom(topic string) error {
	c.from = append(c.from, topic)
	return notEmpty(topic)
}

func (c *command) setTimeout(text string) (err error) {
	if c.timeout, err = time.ParseDuration(text); err != nil {
		return errors.New("write it with its unit, as in 10m or 90s")
	}
	return nil
}

func notEmpty(topic string) error {
	if topic == "" {
		return errors.New("it is empty")
	}
	return nil
}

func unknownCommand(name string) error {
	if strings.HasPrefix(name, "-") {
		return errors.New("flags come after the command, as in: ezq-pgmq queues -timeout 10m")
	}
	return fmt.Errorf("unknown command %q", name)
}

// isAboutAll reports whether the command shows all that there is.
func (c *command) isAboutAll() bool {
	return c.name == "queues" || c.name == "schedules" || c.name == "doctor"
}

// isPause reports whether the command says who pauses something, and why.
func (c *command) isPause() bool { return c.name == "pause" || c.name == "pause-schedule" }

// argument is what the command is about.
func (c *command) argument() string {
	if strings.HasSuffix(c.name, "-schedule") {
		return "schedule"
	}
	return "topic"
}

func (c command) check(topics []string, in string) error {
	switch {
	case c.isAboutAll() && len(topics) > 0:
		return fmt.Errorf("%s is about all that there is, and takes no %q", c.name, topics[0])
	case !c.isAboutAll() && len(topics) == 0 && in == "":
		return fmt.Errorf("%s: missing %s", c.name, c.argument())
	case slices.Contains(topics, ""):
		return fmt.Errorf("%s: missing %s: the argument is empty", c.name, c.argument())
	case len(topics) > 1:
		return fmt.Errorf("%s takes one %s, not %q", c.name, c.argument(), topics)
	case len(topics) > 0 && in != "":
		return fmt.Errorf("a topic and -in exclude each other: leave out %q or -in %q", topics[0], in)
	case c.isPause() && strings.TrimSpace(c.reason) == "":
		return errors.New("say why with -reason: it is logged where the pause holds")
	case c.isPause() && strings.TrimSpace(c.by) == "":
		return errors.New("say who pauses with -by: it is logged where the pause holds")
	case c.duration < 0:
		return fmt.Errorf("-for is %v: set it to more than 0, as in 10m, or leave it out to pause until resume", c.duration)
	case c.max < 1 && (c.name == "dead" || c.name == "redrive" || c.name == "find"):
		return fmt.Errorf("-max is %d: set it to 1 or more", c.max)
	case c.timeout <= 0:
		return fmt.Errorf("-timeout is %v: set it to more than 0, as in 10m", c.timeout)
	case c.isAboutDeadLetters():
		return c.checkDeadLetters()
	}
	return c.checkSingle()
}

// checkSingle checks what selects single messages.
func (c command) checkSingle() error {
	chosen := c.single.ID+c.single.UniqueKey != ""
	switch {
	case c.name == "find" && !chosen && c.single.Event+c.single.Header+c.single.Field == "":
		return errors.New("find: say which messages, with -id, -key, -event, -header or -field")
	case (c.name == "cancel" || c.name == "reschedule") && !chosen:
		return fmt.Errorf("%s: say which message, with -id or -key: find shows its ID", c.name)
	case c.name == "reschedule" && c.at.IsZero() == (c.delay == nil):
		return errors.New("reschedule: say when, with either -at or -delay")
	}
	return nil
}

// checkDeadLetters checks what selects dead letters, and says what becomes of them.
func (c command) checkDeadLetters() error {
	switch {
	case c.limit < 1 && c.name == "dead":
		return fmt.Errorf("-payload-limit is %d: set it to 1 or more", c.limit)
	case c.all && c.bounded:
		return errors.New("-all and -max exclude each other")
	case c.name == "edit-dead" && c.file == "":
		return errors.New("name the file with the dead letter with -file: ezq-pgmq dead -json has written it, and its payload is edited")
	case c.counts && (c.json || c.payload):
		return errors.New("-count excludes -json and -payload")
	case c.strays && c.isSelective():
		return errors.New("-strays deletes all that is there: leave out what selects dead letters")
	case c.strays && len(c.from) > 0:
		return errors.New("-from and -strays exclude each other: -strays deletes all that is there")
	case c.name == "purge-dead" && !c.strays && len(c.from) == 0 && !strings.HasSuffix(c.topic, backend.DeadLetterSuffix):
		return fmt.Errorf("-in does not say which topics the dead letters came from: name them with -from, or delete all that is in %s with -strays%s", printable(c.topic), c.caution())
	case c.name == "redrive" && len(c.from) == 0 && !strings.HasSuffix(c.topic, backend.DeadLetterSuffix):
		return errors.New("-in does not say which topics the dead letters came from: name them with -from")
	}
	return nil
}

// caution says what -strays can cost where the name of the queue does not say that it is one of dead
// letters.
func (c command) caution() string {
	if strings.HasSuffix(c.topic, backend.DeadLetterSuffix) {
		return ""
	}
	return ", also events that wait to be handled, if it is a queue in use"
}

// topicNames names the topics whose dead letters are meant.
func (c command) topicNames() string {
	topics := c.topics()
	names := make([]string, len(topics))
	for i, topic := range topics {
		names[i] = printable(topic)
	}
	return strings.Join(names, " or ")
}

func (c command) remaining(ctx context.Context, client *pgmq.Client) (string, error) {
	found, err := client.Metrics(ctx, c.topic)
	return count(found.Visible+found.Invisible, found.VisibleCapped || found.InvisibleCapped), err
}

// explainError says what is meant by a queue of dead letters that is not there, which need not be
// created, and what can be done here about strays.
func (c command) explainError(err error) error {
	if errors.Is(err, pgmq.ErrQueueNotFound) {
		return fmt.Errorf("no dead letters: the queue of %s does not exist; run %q",
			printable(c.topic), "ezq-pgmq queues")
	}
	return c.explainStrays(err)
}

func (c command) explainStrays(err error) error {
	strays, ok := errors.AsType[*pgmq.Error](err)
	if !ok || !errors.Is(err, pgmq.ErrStrays) {
		return err
	}
	told := *strays
	told.Remedy = "-show shows what they say, and -from takes those of another topic"
	if c.name == "purge-dead" {
		told.Remedy = fmt.Sprintf("look at them with ezq-pgmq dead -in %s; delete those of another topic with -from, and all that is there with -strays%s",
			shellWord(c.topic), c.caution())
	}
	return &told
}

func (c command) run(ctx context.Context, url string, out io.Writer) error {
	if strings.TrimSpace(url) == "" {
		return errors.New("EZQ_DATABASE_URL is not set: set it to postgres://user:password@host:5432/database")
	}
	client, err := pgmq.Open(ctx, url, &pgmq.Config{
		Subscriber: pgmq.SubscriberConfig{Group: c.group}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // there is nothing in it
	return c.do(ctx, client, out)
}

func (c command) do(ctx context.Context, client *pgmq.Client, out io.Writer) error {
	switch c.name {
	case "queues":
		return listQueues(ctx, client, out)
	case "schedules":
		return listSchedules(ctx, client, out)
	case "doctor":
		return examine(ctx, client, c.json, c.fail, out)
	}
	return map[string]func(context.Context, *pgmq.Client, command, io.Writer) error{
		"dead":            listDeadLetters,
		"redrive":         redrive,
		"purge-dead":      purge,
		"edit-dead":       editDeadLetter,
		"pause":           pause,
		"resume":          resume,
		"find":            findMessages,
		"cancel":          cancelMessages,
		"reschedule":      rescheduleMessages,
		"pause-schedule":  pauseSchedule,
		"resume-schedule": resumeSchedule,
	}[c.name](ctx, client, c, out)
}

func deadLetterTopic(topics []string, in string) string {
	if in != "" || len(topics) == 0 {
		return in
	}
	return strings.TrimSuffix(topics[0], backend.DeadLetterSuffix) + backend.DeadLetterSuffix
}
