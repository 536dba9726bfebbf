package pgmq

import "github.com/ezq-go/ezq/backend/pgmq/internal/fault"

// What went wrong. An [*Error] matches at most one of these.
var (
	// ErrUnreachable: there is no connection to PostgreSQL, or it broke. It may
	// come back by itself.
	ErrUnreachable = fault.ErrUnreachable

	// ErrAuthentication: PostgreSQL does not let the role in.
	ErrAuthentication = fault.ErrAuthentication

	// ErrNotInstalled: the database has no PGMQ.
	ErrNotInstalled = fault.ErrNotInstalled

	// ErrTooOld: PGMQ, or a table that it once created, is too old: 1.5 is needed, and
	// 1.11 for a Group.
	ErrTooOld = fault.ErrTooOld

	// ErrPermission: the role lacks a privilege. The error names the GRANT.
	ErrPermission = fault.ErrPermission

	// ErrQueueNotFound: the topic's queue has not been created, or was dropped.
	ErrQueueNotFound = fault.ErrQueueNotFound

	// ErrGroupRequired: the topic has groups and no queue of its own, and the consumer
	// has no group; or it is a pattern, which only a group can subscribe to. See SubscriberConfig.Group.
	// It is [backend.ErrGroupRequired].
	ErrGroupRequired = fault.ErrGroupRequired

	// ErrNotAQueue: in place of the topic's queue there is something else.
	ErrNotAQueue = fault.ErrNotAQueue

	// ErrInvalidTopic: no queue can have the topic's name. See [QueueName].
	ErrInvalidTopic = fault.ErrInvalidTopic

	// ErrInvalidMessage: PostgreSQL could not hold the message, or its receiver
	// would not get what was sent.
	ErrInvalidMessage = fault.ErrInvalidMessage

	// ErrStrays: messages in a dead-letter topic stay there, because they are no dead letters of
	// the topics that were asked for. See [Client.Redrive].
	ErrStrays = fault.ErrStrays

	// ErrTooLarge: the payload is larger than MaxPayloadBytes, or all that is published
	// together is larger than the 1 GiB that PostgreSQL takes at a time.
	ErrTooLarge = fault.ErrTooLarge

	// ErrNotPrepared: a queue lacks the index of keys, or the database the table of IDs, that a
	// [backend.PublishCondition] needs; or there is no table of pauses. The error has the SQL.
	ErrNotPrepared = fault.ErrNotPrepared

	// ErrInvalidConfig: a configuration, the database URL, or what a call was given makes no sense.
	ErrInvalidConfig = fault.ErrInvalidConfig
)

// What became of the messages of a publish that failed. Its [*Error] matches one
// of these, besides what went wrong. That of another change, as [Client.Redrive] makes it, matches the
// second, or else nothing was changed beside what was returned.
var (
	// ErrRejected: certainly none of the messages is stored.
	ErrRejected = fault.ErrRejected

	// ErrUnknownOutcome: all messages are stored, or none, and PostgreSQL's
	// answer is lost. Publishing again may store them twice, unless they have an ID that is
	// stored once: see [backend.PublishCondition].
	ErrUnknownOutcome = fault.ErrUnknownOutcome
)

// Error is what functions of this package return when something outside of the
// program, or its configuration, is wrong. Its text is one line: what failed, why, what became of
// the messages, and what to do. It never contains a password, and however it is printed it does
// not show what PostgreSQL quotes of a message. Its fields are:
//
//   - Op string: what was to be done, as a verb: "open", "publish", "subscribe", "fetch",
//     "redrive" and so on.
//   - Topic string: empty if the error does not concern a single one.
//   - Kind error: one of the errors of this package, or nil if none says it.
//   - Remedy string: what an operator can do. It is empty if Cause says it all.
//   - Outcome error: [ErrRejected] or [ErrUnknownOutcome] if a publish failed. If the answer to another change is
//     lost, it matches [ErrUnknownOutcome], and is a [*backend.UnknownOutcomeError] for [errors.As].
//   - Cause error: the error as it came. What PostgreSQL says is a [*pgconn.PgError] for
//     [errors.As], all of whose texts may quote a message. Errors of pgx that contain the password
//     are not kept.
//
// It matches Kind, Outcome and Cause with [errors.Is].
type Error = fault.Error
