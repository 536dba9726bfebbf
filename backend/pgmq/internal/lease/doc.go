// Package lease consumes a queue: its [Store] is what the subscription engine of ezq works on. It claims or
// locks messages, settles them, and keeps those apart that cannot be read. No statement of it changes a
// message whose lease another consumer has, and one message that cannot be read or leased stops no other.
//
// # Messages that make a claim fail
//
// A claim leases the oldest messages and reads them, in one statement. If that fails, the message at fault is
// unknown, and the next claim would meet it again. Five types share the work; each answers one question:
//
//	screening     Which of the next messages look as if they could not be read?
//	suspects      Which of those are leased, and wait to be examined?
//	examination   Can a suspect be read? The [Examiner] gives one queue at a time its turn.
//	quarantine    Where does one go that cannot?
//	refusedRows   Which rows does PostgreSQL not lease at all, as a trial has shown?
//
// The way of a message through them, with the code of each step at the right:
//
//	claim: lease and read                                                  claimer.claimNew
//	  │
//	  ├── it succeeds ────────────────────────────────────────► handed over
//	  │
//	  │ it fails, or takes longer than claims may
//	  ▼
//	screen: lease without reading, and look                                claimer.screen, screening
//	  │
//	  ├── harmless ───────────────────────────────────────────► handed over
//	  │
//	  ├── suspicious ──► suspect: leased, and read beside the claims       suspects, examination
//	  │                    │
//	  │                    ├── can be read ───────────────────► handed over, with the next claim
//	  │                    ├── no time, or no memory ─────────► hidden for 2 s, then 4 s … an hour
//	  │                    └── cannot be read, or too large ──► the archive, or hidden for an hour: quarantine
//	  │
//	  │ PostgreSQL refuses the lease itself, keeps the row as it is, or takes too long for it
//	  ▼
//	trial: the UPDATE of each row alone, and rolled back                   refusedRows.search
//	  │
//	  ├── accepted ───────────────────────────────────────────► claimed by the next claim
//	  └── refused, kept or slow ──────────────────────────────► passed by, and tried again from time to time
//
// A message that is hidden is visible again when that is over, and begins anew. Claims screen for a minute after
// the last suspicious message, and then read again what they lease.
package lease
