package main

import "strings"

//nolint:gosec // the password in the URL is an example
const usage = `ezq-pgmq shows and repairs the queues of a PostgreSQL database.

  ezq-pgmq queues              how many messages wait in each queue, and for how long;
                               DEAD LETTERS are those of the topic, which its groups share;
                               and which topics are paused; in the queue ezq_schedules are the
                               schedules, which no consumer takes
  ezq-pgmq doctor              what slows the queues down, stops them, or loses events, and
                               what to do; docs/doctor.md has more on each
      -json                    as JSON
      -fail warning            exit with 1 from that severity on: note, warning, failure (failure)
  ezq-pgmq find TOPIC          single messages, wherever they are: in a queue, among the dead
                               letters or in the archive; all that is given must match
      -id ID                   as a consumer gets it
      -key KEY                 that of ezq.Unique, Replace or Debounce
      -event NAME  -header NAME=VALUE
      -field PATH=VALUE        a field of the payload, as in order.id=7; 7 is a number and "7" a text
      -max N                   show at most N messages (20)
      -payload                 with their payloads
  ezq-pgmq cancel TOPIC        delete single messages that wait, in the queue and those of groups
      -id ID  -key KEY
      -running                 also those that are being handled: the contexts of their handlers
                               end; and those that failed before, and come again
  ezq-pgmq reschedule TOPIC    deliver single messages that wait at another time
      -id ID  -key KEY
      -at 2027-01-31T09:00:00Z
      -delay 90m               or so long from now; 0s for at once
  ezq-pgmq pause TOPIC         stop the consumers of TOPIC, in all processes, until resume;
                               handlers that run go on, and so do publishers
      -reason TEXT             why, which the consumers log
      -by NAME                 who, if it is not the user of this machine
      -for 1h                  for an hour, and not until resume
      -group GROUP             only the consumers of that group
  ezq-pgmq resume TOPIC        let them go on
      -group GROUP             only the consumers of that group
  ezq-pgmq schedules           the schedules, with the last tick and the next, and which are paused
  ezq-pgmq pause-schedule NAME publish nothing for its ticks, in all processes, until resume
      -reason TEXT             why
      -by NAME                 who, if it is not the user of this machine
      -for 1h                  for an hour, and not until resume
  ezq-pgmq resume-schedule NAME
                               let it go on; the ticks of the pause are not made up for
  ezq-pgmq dead TOPIC          the dead letters, with their reasons
      -max N                   show at most N dead letters, the oldest first (20)
      -after ROW               those behind that one
      -payload                 with their payloads, each up to 64 KiB
      -payload-limit N         up to N bytes
      -json                    as JSON, with all that they have if that is no more than
                               -payload-limit: for edit-dead, and for tests with ezqtest
      -count                   how many there are of each topic, handler, event and reason, in
                               which a # stands for a number
      -from TOPIC              only those that came from TOPIC; may be given several times
  ezq-pgmq redrive TOPIC       move dead letters back to where they came from: to the
                               queue of TOPIC, or those of its groups
      -max N                   at most N, the oldest first (10)
      -all                     all that there are now
      -show                    only show where they would go
      -from TOPIC              those that came from TOPIC instead; may be given several times
  ezq-pgmq purge-dead TOPIC    delete dead letters for good, and nothing else that is there
      -yes                     really delete them; without -yes they are only counted
      -from TOPIC              those that came from TOPIC instead; may be given several times
      -strays                  all that is there, whatever it is
  ezq-pgmq edit-dead TOPIC     replace the payload of a dead letter; redrive it afterwards
      -file FILE               what dead -json has shown, with another "payload"
      -by NAME                 who, if it is not the user of this machine: the event keeps that

dead, redrive and purge-dead take all dead letters, or those for which all of these match:
      -row N                   those rows, as dead shows them; may be given several times
      -id ID  -handler NAME  -event NAME  -group GROUP  -header NAME=VALUE
      -field PATH=VALUE        a field of the payload, as find takes it
      -reason TEXT             a part of the reason, in which a # stands for a number too
      -older 24h  -newer 1h    those that were dead-lettered before then, or since

The dead letters of TOPIC are in TOPIC_dead; TOPIC_dead itself may be named too. If they are
somewhere else, as middleware.Poison{Topic: "elsewhere"} says, name that with -in elsewhere in
the place of TOPIC, and the topics that they came from with -from.

Flags come after the command. With -timeout 10m it may take ten minutes; by default it ends
after one. What it has done by then stays done. It exits with 0 if all was done, 1 if something
was not, with the reason, 2 if it was called wrongly, and 3 if it ended after -timeout.

The database is that of EZQ_DATABASE_URL, as in postgres://user:password@host:5432/database
`

// usageOf returns the part of the usage that is about a command, or all of it if there is no such command.
func usageOf(name string) string {
	begin := strings.Index(usage, "\n  ezq-pgmq "+name+" ")
	if begin < 0 {
		begin = strings.Index(usage, "\n  ezq-pgmq "+name+"\n")
	}
	if begin < 0 || name == "" {
		return usage
	}
	text, _, _ := strings.Cut(usage[begin+1:], "\n\n")
	text, _, _ = strings.Cut(text, "\n  ezq-pgmq ")
	if (&command{name: name}).isAboutDeadLetters() {
		_, selection, _ := strings.Cut(usage, "\n\ndead, redrive")
		selection, _, _ = strings.Cut(selection, "\n\nFlags come")
		text += "\n\ndead, redrive" + selection
	}
	return text + "\n\n\"ezq-pgmq help\" shows all commands.\n"
}
