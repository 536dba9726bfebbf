package hazard

// All returns the hazards that SQL can find, the most severe first. The SQL of each is in the file of its ID.
func All() []Hazard {
	var all []Hazard
	for _, some := range [][]Hazard{failures(), warnings(), notes()} {
		all = append(all, some...)
	}
	return all
}

func failures() []Hazard {
	return []Hazard{
		{ID: "read-only", Severity: Failure, Remedy: "connect to the primary, or to a pooler that leads there; publishing and consuming both write"},
		{ID: "autovacuum-off", Severity: Failure, Remedy: "switch it on: dead rows slow every claim down until VACUUM removes them; a setting of the server takes effect with select pg_catalog.pg_reload_conf()"},
		{ID: "wraparound", Severity: Failure, Remedy: "end what keeps VACUUM from freezing (old-snapshot, replication-slot, prepared-transaction), then vacuum, a database with vacuumdb --freeze"},
		{ID: "sequence-behind", Severity: Failure, perQueue: true, Remedy: "move the sequence on: until then publishes fail, or reuse the ids of other events"},
		{ID: "default-partition", Severity: Failure, Remedy: "move the rows into partitions of their own with partman.partition_data_proc, then run pg_partman's maintenance"},
		{ID: "partitions-run-out", Severity: Failure, Remedy: "run pg_partman's maintenance, and see why it does not run by itself"},
		{ID: "durability", Severity: Failure, Remedy: "switch it on, unless events may be lost in a crash; a setting of the server takes effect with select pg_catalog.pg_reload_conf()"},
		{ID: "notification-queue", Severity: Failure, Threshold: "0.1", Remedy: "end the session that listens and stays in a transaction: PostgreSQL's log names it from half full on"},
		{ID: "connections", Severity: Failure, Remedy: "lower pool_max_conns and SubscriberConfig.MaxConns, put a pooler in front, or raise the limit"},
	}
}

func warnings() []Hazard {
	return []Hazard{
		{ID: "old-snapshot", Severity: Warning, Threshold: "interval '5 minutes'", Remedy: "end the session, or move its reports to a standby: VACUUM keeps all rows that died since"},
		{ID: "idle-in-transaction", Severity: Warning, Threshold: "interval '1 minute'", Remedy: "end the session, and set idle_in_transaction_session_timeout for its role"},
		{ID: "replication-slot", Severity: Warning, Remedy: "start its reader, or, if none is to come, drop the slot with pg_catalog.pg_drop_replication_slot: the server keeps WAL and dead rows for it"},
		{ID: "prepared-transaction", Severity: Warning, Threshold: "interval '1 minute'", Remedy: "let its transaction manager end it, or, if that is gone, COMMIT PREPARED or ROLLBACK PREPARED, which loses its events: it keeps locks and dead rows"},
		{ID: "dead-rows", Severity: Warning, Threshold: "10000", Remedy: "see what keeps VACUUM from them (old-snapshot, replication-slot, prepared-transaction); vacuum the table, and tune it with Client.Tune"},
		{ID: "missing-index", Severity: Warning, Remedy: "create it: each claim reads the whole table"},
		{ID: "invalid-index", Severity: Warning, Remedy: "drop it, and create it again: writes keep it up, and nothing uses it"},
		{ID: "index-bloat", Severity: Warning, Threshold: "67108864", Remedy: "build it anew, beside the running consumers"},
		{ID: "not-consumed", Severity: Warning, Threshold: "interval '1 day'", perQueue: true, Remedy: "start a consumer, or see what its log says; if none is to come, drop the queue, or the binding that fills it"},
		{ID: "many-deliveries", Severity: Warning, perQueue: true, Remedy: "see why they fail, and limit retries with middleware.Retry and middleware.Poison"},
		{ID: "large-archive", Severity: Warning, Threshold: "1073741824", Remedy: "set SubscriberConfig.ArchiveFor, or delete old events with Client.PurgeArchive"},
		{ID: "notify-trigger", Severity: Warning, Remedy: "remove it, unless other programs listen to it: ezq notifies outside of the publisher's commit"},
		{ID: "timeouts", Severity: Warning, Remedy: "switch it off for this role: ezq bounds its own statements, and the setting ends these, or handlers in transactions"},
		{ID: "not-dumped", Severity: Warning, Remedy: "take the table out of the extension, which leaves it as it is: pg_dump leaves out the rows of members"},
		{ID: "meta-mismatch", Severity: Warning, Needs: "pgmq.meta", Remedy: "create what is missing; existing tables and events stay as they are"},
		{ID: "capital-letters", Severity: Warning, Needs: "pgmq.meta", Remedy: "move its events to a queue with a name in small letters before PGMQ is updated to 1.10"},
		{ID: "old-queue", Severity: Warning, Remedy: "add the column, as PGMQ's update does"},
		{ID: "row-security", Severity: Warning, Remedy: "switch it off, or see that its policies let consumers see all rows"},
		{ID: "encoding", Severity: Warning, Remedy: "use a database with the encoding UTF8"},
	}
}

func notes() []Hazard {
	return []Hazard{
		{ID: "paused-topic", Severity: Note, Needs: "pgmq.ezq_pauses", Remedy: "resume it when the reason is gone, with ezq resume TOPIC or Client.Resume"},
		{ID: "own-queue-beside-groups", Severity: Note, Needs: "pgmq.topic_bindings", Remedy: "if no consumer without a group reads it, drop the topic's own queue"},
		{ID: "long-lease", Severity: Note, perQueue: true, Remedy: "if a consumer died that had leased them, make them visible; if they were snoozed, leave them"},
		{ID: "unlogged-queue", Severity: Note, Remedy: "leave it if its events may be lost in a crash"},
		{ID: "stale-statistics", Severity: Note, Threshold: "10000", Remedy: "analyze it after a bulk load, for pgmq.read and queries of your own"},
	}
}
