// Package pgmq is an ezq backend, and a Watermill Pub/Sub, on PGMQ: message
// queues in PostgreSQL.
//
// A service opens a [Client] and uses it with ezq, or wherever Watermill takes a
// Publisher or a Subscriber:
//
//	client, err := pgmq.Open(ctx, "postgres://…", nil)
//	defer client.Close()
//
// A program that has a pool passes it to [New], and a program that is written
// for Watermill's constructors calls [NewPublisher] and [NewSubscriber]. A
// handler whose writes and whose ack are to be one transaction gets it from
// [Client.TxMiddleware].
//
// # Topics and queues
//
// A topic has a PGMQ queue of its own, or one for each group of consumers. A topic
// whose name is a lower-case identifier of up to 47 letters, digits and underscores
// has the queue of that name; [QueueName] tells the queue of any other. Queues are created when they are first used,
// unless NoCreate is set. They are ordinary PGMQ queues: any PGMQ client, and
// any SQL session, can send to them and read from them.
//
// # Publishing
//
// Publish returns nil when PostgreSQL has committed the messages; all messages
// of one call are stored, or none. An error that matches [ErrRejected] means
// that nothing was stored; one that matches [ErrUnknownOutcome], that the answer
// was lost, and they may be stored. [Client.WithTx] publishes in a transaction of the caller.
//
// # Delivery
//
// Delivery is at least once. A message is leased to one consumer, whose lease is
// extended for as long as the message is being handled. Acks, nacks and extensions
// carry the proof of their lease and change nothing once another consumer has
// the message. Acks are stored in batches, within milliseconds: a consumer that
// is killed may see the last messages that it acked once more.
//
// A message is delivered again when it was nacked, when its consumer died or was
// out of reach of PostgreSQL for longer than a lease, or when its handler took
// longer than MaxExtension.
//
// # Operation
//
// The operations of a [Client] have one form: a context, the topic if there is one, what is chosen there, and how.
// What is chosen is a value, options are a pointer, and nil options are the defaults. An operation on one queue takes
// that of the Group, if the Client has one; those about dead letters do not, since groups share them. The comment of
// each says which privileges it needs.
//
//   - Queues: [Client.Queues], [Client.Metrics] and [Client.AllMetrics] tell how they are doing, [Client.Stats] what this
//     process does with them. [Client.CreateQueue], [Client.Tune], [Client.PurgeQueue] and [Client.DropQueue] change one.
//   - Hazards: [Client.Check] tells what endangers the queues, and what to do.
//   - Consumers: [Client.Pause] stops those of a topic in all processes, [Client.Resume] lets them go on, and
//     [Client.Pauses] and [Client.AllPauses] tell who has paused what, and why.
//   - Single messages: [Client.Find] tells where they are, [Client.Cancel] deletes what waits, [Client.CancelRunning]
//     also what is being handled, and [Client.Reschedule] gives it another time.
//   - Schedules: [Client.Schedules] lists, pauses and resumes those of all programs.
//   - Dead letters: [Client.DeadLetters] tells what failed and why, [Client.CountDeadLetters] how often.
//     [Client.DeadLetterHeads] lists them without their payloads, and [Client.ReadDeadLetter] reads one.
//     [Client.EditDeadLetter] corrects one, [Client.Redrive] brings them back, which [Client.Origins] shows before, and
//     [Client.PurgeDeadLetters] deletes them.
//   - Archives, which SubscriberConfig.Archive fills: [Client.Replay] publishes from one again, and
//     [Client.PurgeArchive] empties it.
//
// # What is needed
//
// PGMQ 1.5 or later, installed as an extension or as plain SQL; groups need 1.11.
//
// The transactions of this package state their isolation level, and none of its
// statements needs a session. Behind a pooler in transaction mode that does not know prepared
// statements (PgBouncer before 1.21, or without max_prepared_statements), add
// default_query_exec_mode=cache_describe to the URL, for publishing; consumers
// find out by themselves that notifications do not arrive there.
package pgmq
