package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ezq-go/ezq/backend"
)

// isOfDeadLetters reports whether a topic has dead letters by its name, or shows that it has not, before the backend is asked:
// what lies in any other topic is no dead letter, and is not shown as one.
func isOfDeadLetters(v *view, topic string) bool {
	if _, ok := base(topic); ok {
		return true
	}
	if topic == "" {
		v.fail(http.StatusBadRequest, "No topic is named.", "Choose one from the list of dead letters.")
		return false
	}
	v.ways = []way{{link("dead", "topic", topic+backend.DeadLetterSuffix), "Dead letters of " + topic}}
	v.fail(http.StatusNotFound, fmt.Sprintf("The topic %.100q has no dead letters in it: its name does not end with %s.", topic, backend.DeadLetterSuffix),
		"Those of a topic lie in the topic that is named after it, with "+backend.DeadLetterSuffix+" at its end.")
	return false
}

// hasDeadLetters reports whether there is such a topic of dead letters, or shows that there is not.
func hasDeadLetters(v *view) bool {
	topic := v.form("topic")
	return isOfDeadLetters(v, topic) && v.knownTopic(topic)
}

// chosenLetters says which dead letters are chosen.
func chosenLetters(v *view) string {
	f := deadView{v}.letterFilter()
	if f.Row != "" {
		return fmt.Sprintf("dead letter %s in %q", f.Row, f.Topic)
	}
	var by []string
	for _, one := range [...]value{{"handler", f.Handler}, {"event", f.Event}, {"group", f.Group}, {"reason has", f.Reason}, {"ID", f.ID}} {
		if one.Value != "" {
			by = append(by, fmt.Sprintf("%s %q", one.Name, one.Value))
		}
	}
	if f.Age != "" {
		by = append(by, "at most "+f.Age+" old")
	}
	text := fmt.Sprintf("all dead letters in %q", f.Topic)
	if len(by) > 0 {
		text = fmt.Sprintf("dead letters in %q: %s", f.Topic, strings.Join(by, ", "))
	}
	if f.Until != "" {
		until := f.Until
		if at, err := time.Parse(time.RFC3339Nano, until); err == nil {
			until = stamp(at)
		}
		text += ", dead-lettered until " + until
	}
	return text
}

// aboutRedrive says what becomes of what is moved back.
func aboutRedrive(v *view, c *confirmation) {
	c.About = append(c.About, "All handlers of an event run again, also those that have succeeded.")
	topic, _ := base(v.form("topic"))
	if v.client.pauser == nil {
		return
	}
	held, err := v.client.pauser.Pauses(v.ctx, topic)
	if err != nil {
		v.note(err)
	}
	if len(held) > 0 {
		c.About = append(c.About, "Some of its consumers are paused: what is moved back for them waits until they are resumed.")
	}
}

// aboutLetters says how many dead letters are chosen, and leaves out those that come later.
func aboutLetters(v *view, c *confirmation) error {
	selection, err := deadView{v}.selection()
	if err == nil && v.form("action") == "redrive" {
		aboutRedrive(v, c)
	}
	if err != nil || len(selection.Rows) > 0 {
		return cmp.Or(err, sameLetter(v, selection))
	}
	sums, err := v.client.letters.CountDeadLetters(v.ctx, v.form("topic"), withLimit(selection, maxSums))
	if len(sums) == 0 {
		if err == nil {
			err = errNoLetters
		}
		return err
	}
	if err != nil {
		v.note(err)
	}
	total, newest := 0, sums[0].Newest
	for _, s := range sums {
		total += s.Letters
		if s.Newest.After(newest) {
			newest = s.Newest
		}
	}
	c.Values = slices.DeleteFunc(c.Values, func(sent value) bool { return sent.Name == "until" })
	c.Values = append(c.Values, value{"until", newest.UTC().Format(time.RFC3339Nano)})
	are, least := "are", ""
	if total == 1 {
		are = "is"
	}
	if err != nil { // not all were counted
		least = "At least "
	}
	c.About = append(c.About, fmt.Sprintf("%s%s %s there now, dead-lettered until %s. What comes later stays.", least, grouped(int64(total)), are, stamp(newest)))
	return nil
}

// confirmedLetters returns the dead letters that were confirmed: one, or those that were there then.
func confirmedLetters(v *view) (backend.DeadLetterSelection, error) {
	selection, err := deadView{v}.selection()
	if err == nil && len(selection.Rows) == 0 && selection.To.IsZero() {
		err = &backend.RefusedError{What: "the change", Reason: "it does not say until when the dead letters were dead-lettered", Remedy: "choose them from the list, which asks before"}
	}
	return selection, cmp.Or(err, sameLetter(v, selection))
}

// sameLetter returns an error if the one letter that is chosen is not any more what it was when its page was shown, which has
// sent its version on.
func sameLetter(v *view, selection backend.DeadLetterSelection) error {
	version := v.form("version")
	switch {
	case version == "" || len(selection.Rows) == 0:
		return nil
	case !v.rights.Payloads:
		return &backend.RefusedError{What: "the version", Reason: "you may not see what messages say", Remedy: "choose the dead letter from the list"}
	}
	found, err := v.client.letters.DeadLetters(v.ctx, v.form("topic"), withLimit(selection, 1))
	if err == nil && len(found) > 0 && found[0].Version() != version {
		err = errOtherLetter
	}
	return err
}

// goneMeanwhile is why there is nothing to do of what was there when it was confirmed.
const goneMeanwhile = "none of them is there any more. They may have been redriven or deleted meanwhile."

func redrive(v *view) (result, error) {
	selection, err := confirmedLetters(v)
	if err != nil {
		return result{}, err
	}
	got, err := v.client.letters.Redrive(v.ctx, v.form("topic"), selection)
	return told(err, "0 moved back: "+goneMeanwhile, part{text: "%d moved back.", n: got.Moved}, part{text: "Left, since leased, delayed or locked: %d.", n: got.Busy, left: true})
}

func purge(v *view) (result, error) {
	selection, err := confirmedLetters(v)
	if err != nil {
		return result{}, err
	}
	got, err := v.client.letters.PurgeDeadLetters(v.ctx, v.form("topic"), selection)
	return told(err, "0 deleted: "+goneMeanwhile, part{text: "%d deleted.", n: got.Removed}, part{text: "Left, since locked: %d.", n: got.Busy, left: true})
}

// wantedEdit returns the edit that is asked for.
func wantedEdit(v *view) (backend.DeadLetterEdit, error) {
	row, err := strconv.ParseInt(v.form("row"), 10, 64)
	if err != nil {
		err = &backend.RefusedError{What: "the row", Reason: "it is no number", Remedy: "choose the dead letter from the list"}
	}
	return backend.DeadLetterEdit{Row: row, Version: v.form("version"), Payload: []byte(v.r.PostForm.Get("payload")), By: v.user(v.r)}, err
}

// aboutEdit shows the payload that is wanted, unless it could not be stored.
func aboutEdit(v *view, c *confirmation) error {
	edit, err := wantedEdit(v)
	if err == nil {
		err = edit.Check()
	}
	payload := editable(edit.Payload)
	c.Payload = &payload
	return err
}

func edit(v *view) (result, error) {
	edit, err := wantedEdit(v)
	if err != nil {
		return result{}, err
	}
	if err := v.client.letters.EditDeadLetter(v.ctx, v.form("topic"), edit); err != nil {
		return result{}, err
	}
	return result{"It is changed, and stays where it is until it is redriven.", true}, nil
}
