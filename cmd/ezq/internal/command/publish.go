package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"

	"github.com/ezq-go/ezq/backend"
	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/cmd/ezq/internal/terminal"
)

const (
	// maxEvent is how many bytes an event may have that is read.
	maxEvent = 1 << 28

	// maxBatch and maxBatchBytes are how much of --lines is stored in one step.
	maxBatch      = 500
	maxBatchBytes = 1 << 20
)

// publishFlags say what is published, and how.
type publishFlags struct {
	data, file string
	lines      bool
	event      string
	id, key    string
	delay      *time.Duration
	headers    message.Metadata
	create     bool
	asJSON     *bool
}

func newPublish(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use: "publish TOPIC", Short: "Publish an event, or one for each line of JSON", Args: one("topic"), ValidArgsFunction: completesTopic(s),
		Long: `Publish an event, or with --lines one for each line.

The payload is JSON, from --data, from a file, or from the standard input. It is stored as it is written; --event puts the
name of the event into it, as "_type". What is no JSON is refused before anything is stored. A topic that does not
exist is refused too, since its name may be wrong, unless --create is given.

With --lines each batch of up to 500 lines is stored as a whole or not at all, one after the other. If one fails, those
before it are stored, and the error says with which line to go on.

If the outcome is unknown, as after a broken connection, the event may be stored or not. With --id it is stored once, however
often the same command is run: within a day, by default.`,
		Example: `  ezq publish orders --event OrderPaid --data '{"Order": 7}' --id order-7
  ezq publish orders --event OrderPaid --file order.json --delay 90m
  ezq publish orders --lines < orders.jsonl`,
	}
	f := &publishFlags{headers: message.Metadata{}, asJSON: jsonFlag(cmd)}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "", "the payload")
	flags.StringVarP(&f.file, "file", "f", "", `the file with the payload; "-" is the standard input`)
	flags.BoolVar(&f.lines, "lines", false, "publish an event for each line")
	flags.StringVarP(&f.event, "event", "e", "", `the name of the event, which becomes "_type"`)
	flags.StringVar(&f.id, "id", "", "the ID: an event with it is stored once")
	flags.StringVarP(&f.key, "key", "k", "", "the key by which events stay in order, as that of ezq.Key")
	delayFlag(cmd, &f.delay, "deliver it so long from now, as in 90m")
	flags.VarP(&funcValue{kind: "name=value", reads: func(text string) error {
		name, value, err := readHeader(text)
		f.headers[name] = value
		return err
	}}, "header", "H", "a header of the event; may be given several times")
	flags.BoolVar(&f.create, "create", false, "create the queue of the topic, and the table of IDs, if they do not exist")
	s.runs(cmd, func(ctx context.Context, args []string) error {
		if err := f.check(cmd.Flags().Changed("data")); err != nil {
			return err
		}
		in, closes, err := openPayload(s, f, cmd.Flags().Changed("data"))
		if err != nil {
			return err
		}
		defer closes()
		if f.lines {
			return publishLines(ctx, s, args[0], f, &input{ctx: ctx, from: in})
		}
		return publishOne(ctx, s, args[0], f, &input{ctx: ctx, from: in})
	})
	return cmd
}

func (f *publishFlags) check(hasData bool) error {
	switch {
	case hasData && f.file != "":
		return wrong("--data and --file exclude each other")
	case f.lines && f.id != "":
		return wrong("--id is for one event, and --lines publishes several")
	}
	for name := range f.headers {
		if strings.HasPrefix(name, "ezq_") || strings.HasSuffix(name, "_poisoned") {
			return wrong("the header %s is reserved for ezq: choose another name", terminal.Printable(name))
		}
	}
	return nil
}

// openPayload returns what the payload is read from.
func openPayload(s *session, f *publishFlags, hasData bool) (in io.Reader, closes func(), err error) {
	switch {
	case hasData:
		return strings.NewReader(f.data), func() {}, nil
	case f.file == "" || f.file == "-":
		return s.In, func() {}, nil
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, nil, err
	}
	return file, func() { _ = file.Close() }, nil // nothing was written
}

// message returns what is published, or an error that says why it cannot be.
func (f *publishFlags) message(ctx context.Context, payload []byte) (*message.Message, error) {
	payload, err := named(payload, f.event)
	if err != nil {
		return nil, err
	}
	id, condition := f.id, &backend.PublishCondition{Once: true}
	if id == "" {
		id, condition = watermill.NewUUID(), nil
	}
	msg := message.NewMessageWithContext(backend.WithPublishCondition(ctx, condition), id, payload)
	msg.Metadata.Set("content-type", "application/json")
	for name, value := range f.headers {
		msg.Metadata.Set(name, value)
	}
	if f.key != "" {
		msg.Metadata.Set(keyHeader, f.key)
	}
	if f.delay != nil && *f.delay > 0 {
		backend.SetDelay(msg, *f.delay)
	}
	return msg, nil
}

// publishView is what publish --json prints. With --lines it has the Stored alone.
type publishView struct {
	Stored int    `json:"stored"` // 0 if an event with the ID was stored before
	ID     string `json:"id,omitempty"`
	Topic  string `json:"topic"`
}

func publishOne(ctx context.Context, s *session, topic string, f *publishFlags, in io.Reader) error {
	payload, err := io.ReadAll(io.LimitReader(in, maxEvent+1))
	if err != nil {
		return err
	}
	if len(payload) > maxEvent {
		return fmt.Errorf("the payload has more than %d bytes", maxEvent)
	}
	msg, err := f.message(ctx, payload)
	if err != nil {
		return fmt.Errorf("the payload: %w", err)
	}
	client, err := s.open(ctx, &pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: !f.create}})
	if err != nil {
		return err
	}
	if err := client.Publish(topic, msg); err != nil {
		return explainPublish(explainMissing(err, topic), topic, f, msg.UUID)
	}
	stored := 1
	if result, ok := backend.PublishConditionFromContext(msg.Context()).Result(); ok && result.Outcome == backend.PublishExisted {
		stored = 0
	}
	switch {
	case *f.asJSON:
		return s.printJSON(publishView{Stored: stored, ID: msg.UUID, Topic: topic})
	case stored == 0:
		s.printf("nothing was stored: the topic %s got an event with the ID %s before\n", terminal.Printable(topic), terminal.Printable(msg.UUID))
	default:
		s.printf("stored in %s: %s\n", terminal.Printable(topic), terminal.Printable(msg.UUID))
	}
	return nil
}

// explainMissing names the commands that create a topic.
func explainMissing(err error, topic string) error {
	if !errors.Is(err, pgmq.ErrQueueNotFound) {
		return err
	}
	if told, ok := errors.AsType[*pgmq.Error](err); ok { // its remedy speaks of Go
		bare := *told
		bare.Remedy = ""
		err = &bare
	}
	return fmt.Errorf("there is no topic %s: see whether the name is right with ezq queues, "+
		"or create it with ezq init %s, or with --create: %w", terminal.Printable(topic), terminal.ShellWord(topic), err)
}

// explainPublish says what to do if it is unknown whether the event was stored.
func explainPublish(err error, topic string, f *publishFlags, id string) error {
	if !errors.Is(err, pgmq.ErrUnknownOutcome) {
		return err
	}
	if f.id != "" {
		return fmt.Errorf("%w: run the same command again: the event is stored once", err)
	}
	return fmt.Errorf("%w: look for it with ezq find %s --id %s, and publish it again with --id %s if it is not there",
		err, terminal.ShellWord(topic), terminal.ShellWord(id), terminal.ShellWord(id))
}

// lineBatch is lines that were read and are not stored yet.
type lineBatch struct {
	client *pgmq.Client
	topic  string
	events []*message.Message
	bytes  int

	first, last int // the lines that are in it, and how many were read
	stored      int
}

func (b *lineBatch) flush() error {
	if len(b.events) == 0 {
		return nil
	}
	if err := b.client.Publish(b.topic, b.events...); err != nil {
		return explainBatch(explainMissing(err, b.topic), b.first, b.last)
	}
	b.stored += len(b.events)
	b.events, b.bytes, b.first = nil, 0, b.last+1
	return nil
}

// end stores what was read before the line after last, which is wrong, and says with which line to go on.
func (b *lineBatch) end(wrong error) error {
	wrong = fmt.Errorf("line %d: %w", b.last+1, wrong)
	if err := b.flush(); err != nil {
		return errors.Join(err, fmt.Errorf("%w: correct that, too", wrong))
	}
	return fmt.Errorf("%w: correct it, and go on from that line", wrong)
}

// publishLines publishes an event for each line, in batches. All lines of a batch are read before it is stored.
func publishLines(ctx context.Context, s *session, topic string, f *publishFlags, in *input) (err error) {
	client, err := s.open(ctx, &pgmq.Config{Publisher: pgmq.PublisherConfig{NoCreate: !f.create}})
	if err != nil {
		return err
	}
	b := &lineBatch{client: client, topic: topic, first: 1}
	defer func() {
		if *f.asJSON {
			err = errors.Join(s.printJSON(publishView{Stored: b.stored, Topic: topic}), err)
		} else {
			s.printf("stored in %s: %d\n", terminal.Printable(topic), b.stored)
		}
	}()
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxEvent)
	lines.Split(in.lines)
	for lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			b.last++
			continue
		}
		msg, err := f.message(ctx, []byte(lines.Text()))
		if err != nil {
			return b.end(err)
		}
		b.last++
		if b.events, b.bytes = append(b.events, msg), b.bytes+len(msg.Payload); len(b.events) == maxBatch || b.bytes > maxBatchBytes {
			if err := b.flush(); err != nil {
				return err
			}
		}
	}
	return b.endOfInput(ctx, lines.Err())
}

// endOfInput stores what is left, unless ctx has ended, in which nothing is stored any more.
func (b *lineBatch) endOfInput(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return b.flush()
	case errors.Is(err, bufio.ErrTooLong):
		return b.end(fmt.Errorf("it has more than %d bytes", maxEvent))
	case ctx.Err() != nil:
		return fmt.Errorf("%w: what was read from line %d on is not stored: go on from that line", err, b.first)
	}
	return errors.Join(b.flush(), fmt.Errorf("the lines after line %d cannot be read: %w", b.last, err))
}

// explainBatch says which lines were not stored, or may be.
func explainBatch(err error, first, last int) error {
	if errors.Is(err, pgmq.ErrUnknownOutcome) {
		return fmt.Errorf("lines %d to %d are all stored, or none is: look for one of them with ezq find, and go on from line %d or %d: %w", first, last, first, last+1, err)
	}
	return fmt.Errorf("lines %d to %d are not stored: correct that, and go on from line %d: %w", first, last, first, err)
}
