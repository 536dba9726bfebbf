package conformance_test

import (
	"context"
	"errors"
	"slices"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/ezq-go/ezq/backend"
)

// letterStore is what a broker does otherwise with its dead letters. A nil field is no fault.
type letterStore struct {
	list    func(p *process, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error)
	count   func(p *process, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error)
	redrive func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error)
	purge   func(p *process, from string, s backend.DeadLetterSelection) (backend.Purged, error)
	edit    func(p *process, from string, e backend.DeadLetterEdit) error
}

// lettersAs returns the fault of a broker that lists dead letters otherwise.
func lettersAs(change func(s *backend.DeadLetterSelection)) fault {
	return fault{letterStore: letterStore{list: func(p *process, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
		change(&s)
		return p.backend.DeadLetters(context.Background(), from, s)
	}}}
}

// redrivenAs returns the fault of a broker that redrives otherwise.
func redrivenAs(redrive func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error)) fault {
	return fault{letterStore: letterStore{redrive: redrive}}
}

// editedAs returns the fault of a broker that edits otherwise.
func editedAs(edit func(p *process, from string, e backend.DeadLetterEdit) error) fault {
	return fault{letterStore: letterStore{edit: edit}}
}

// replace publishes the dead letters that s chooses anew, as change makes of them, and deletes them.
func replace(p *process, from string, s backend.DeadLetterSelection, change func(*message.Message)) (backend.Redriven, error) {
	all, err := p.backend.DeadLetters(context.Background(), from, s)
	for _, d := range all {
		msg := &message.Message{UUID: d.ID, Payload: d.Payload, Metadata: d.Metadata}
		change(msg)
		err = errors.Join(err, p.store(d.Topic, msg))
	}
	_, failed := p.backend.PurgeDeadLetters(context.Background(), from, s)
	return backend.Redriven{Moved: len(all)}, errors.Join(err, failed)
}

func letterStoreMutants() []mutant {
	const (
		isListed   = "stored dead letters/dead letters are listed"
		isChosen   = "stored dead letters/a selection chooses dead letters"
		hasField   = "stored dead letters/a field of the body chooses dead letters"
		isCounted  = "stored dead letters/dead letters are counted"
		isMoved    = "stored dead letters/a redrive moves what is chosen"
		staysGood  = "stored dead letters/a redriven message expires no more"
		movesOnce  = "stored dead letters/redrives move a letter once"
		isFree     = "stored dead letters/no condition holds a redrive back"
		isBusy     = "stored dead letters/a leased dead letter is busy"
		isPurged   = "stored dead letters/a purge deletes what is chosen"
		strayStays = "stored dead letters/other messages stay among dead letters"
		isEdited   = "stored dead letters/an edit replaces the payload"
		isRefused  = "stored dead letters/an edit of what has changed is refused"
		isSensible = "stored dead letters/an impossible selection of dead letters is refused"
	)
	return []mutant{
		{
			name: "dead letters are listed from the first one again", breaks: "the next page is the first one", killedBy: []string{isListed},
			fault: lettersAs(func(s *backend.DeadLetterSelection) { s.After = 0 }),
		},
		{
			name: "all dead letters are listed", breaks: "a part of a selection does not count", killedBy: []string{isChosen},
			fault: lettersAs(func(s *backend.DeadLetterSelection) { s.Handler = "" }),
		},
		{
			name: "all dead letters have the field", breaks: "a field of the body does not count", killedBy: []string{hasField},
			fault: lettersAs(func(s *backend.DeadLetterSelection) { s.Field, s.Equals = "", nil }),
		},
		{
			name: "the latest dead letter is the first", breaks: "dead letters are listed in another order", killedBy: []string{isListed, isChosen},
			fault: fault{letterStore: letterStore{list: func(p *process, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
				all, err := p.backend.DeadLetters(context.Background(), from, s)
				slices.Reverse(all)
				return all, err
			}}},
		},
		{
			name: "each reason is counted by itself", breaks: "reasons that differ in a number are counted apart", killedBy: []string{isCounted},
			fault: fault{letterStore: letterStore{count: func(p *process, from string, s backend.DeadLetterSelection) (counts []backend.DeadLetterCount, err error) {
				all, err := p.backend.DeadLetters(context.Background(), from, s)
				for _, d := range all {
					counts = append(counts, backend.DeadLetterCount{Topic: d.Topic, Handler: d.Handler, Event: d.Event, Reason: d.Reason, Letters: 1, Oldest: d.At, Newest: d.At})
				}
				return counts, err
			}}},
		},
		{
			name: "counts beyond the limit are lost", breaks: "the sum of the rest is not told", killedBy: []string{isCounted},
			fault: fault{letterStore: letterStore{count: func(p *process, from string, s backend.DeadLetterSelection) ([]backend.DeadLetterCount, error) {
				all, err := p.backend.CountDeadLetters(context.Background(), from, s)
				return slices.DeleteFunc(all, func(c backend.DeadLetterCount) bool { return c.Rest }), err
			}}},
		},
		{
			name: "a redrive moves all", breaks: "dead letters are moved that were not chosen", killedBy: []string{isMoved},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				s.ID = ""
				return p.backend.Redrive(context.Background(), from, s)
			}),
		},
		{
			name: "a redrive copies", breaks: "a dead letter that is moved stays where it was", killedBy: []string{isMoved, movesOnce},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				all, err := p.backend.DeadLetters(context.Background(), from, s)
				for _, d := range all {
					err = errors.Join(err, p.store(d.Topic, &message.Message{UUID: d.ID, Payload: d.Payload, Metadata: d.Metadata}))
				}
				return backend.Redriven{Moved: len(all)}, err
			}),
		},
		{
			name: "a redrive publishes anew", breaks: "a redriven message has another ID", killedBy: []string{isMoved},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				return replace(p, from, s, func(msg *message.Message) { msg.UUID += " again" })
			}),
		},
		{
			name: "a redrive keeps the expiry", breaks: "a redriven message still has its time from which on it is not to be handled", killedBy: []string{staysGood},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				return replace(p, from, s, func(*message.Message) {})
			}),
		},
		{
			name: "a redrive stores once", breaks: "a redriven message is refused, since its ID is known", killedBy: []string{isFree},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				return replace(p, from, s, func(msg *message.Message) {
					msg.SetContext(backend.WithPublishCondition(context.Background(), &backend.PublishCondition{Once: true}))
				})
			}),
		},
		{
			name: "a leased dead letter counts as moved", breaks: "Redrive reports a dead letter as moved that is being handled", killedBy: []string{isBusy},
			fault: redrivenAs(func(p *process, from string, s backend.DeadLetterSelection) (backend.Redriven, error) {
				done, err := p.backend.Redrive(context.Background(), from, s)
				return backend.Redriven{Moved: done.Moved + done.Busy}, err
			}),
		},
		{
			name: "a purge deletes all", breaks: "dead letters are deleted that were not chosen", killedBy: []string{isPurged},
			fault: fault{letterStore: letterStore{purge: func(p *process, from string, s backend.DeadLetterSelection) (backend.Purged, error) {
				return p.backend.PurgeDeadLetters(context.Background(), from, backend.DeadLetterSelection{Limit: s.Limit})
			}}},
		},
		{
			name: "a purge knows no strays", breaks: "nothing says that messages are no dead letters", killedBy: []string{strayStays},
			fault: fault{letterStore: letterStore{purge: func(p *process, from string, s backend.DeadLetterSelection) (backend.Purged, error) {
				done, _ := p.backend.PurgeDeadLetters(context.Background(), from, s)
				return done, s.Check()
			}}},
		},
		{
			name: "an edit says nothing of itself", breaks: "an edited message does not say who has edited it", killedBy: []string{isEdited},
			fault: editedAs(func(p *process, from string, e backend.DeadLetterEdit) error {
				e.By = "?"
				return p.backend.EditDeadLetter(context.Background(), from, e)
			}),
		},
		{
			name: "the last edit wins", breaks: "an edit overwrites another one that was made since", killedBy: []string{isRefused},
			fault: editedAs(func(p *process, from string, e backend.DeadLetterEdit) error {
				all, err := p.backend.DeadLetters(context.Background(), from, backend.DeadLetterSelection{Rows: []int64{e.Row}})
				if err == nil && len(all) == 1 && e.Version != "" {
					e.Version = all[0].Version()
				}
				return p.backend.EditDeadLetter(context.Background(), from, e)
			}),
		},
		{
			name: "no row is each row", breaks: "an empty list of rows chooses all dead letters", killedBy: []string{isSensible},
			fault: lettersAs(func(s *backend.DeadLetterSelection) {
				if len(s.Rows) == 0 {
					s.Rows = nil
				}
			}),
		},
		{
			name: "any selection of dead letters will do", breaks: "a selection that cannot be finds nothing, and is no error", killedBy: []string{isSensible},
			fault: fault{letterStore: letterStore{list: func(p *process, from string, s backend.DeadLetterSelection) ([]backend.FoundDeadLetter, error) {
				if s.Check() != nil {
					return nil, nil
				}
				return p.backend.DeadLetters(context.Background(), from, s)
			}}},
		},
	}
}
