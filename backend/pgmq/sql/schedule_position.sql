-- How far a schedule has come, its pause, and the time. The row is locked.
--
-- Parameter: $1 the id of the schedule.
--
-- The clock is read when the row is locked, so it is not earlier than the last tick. {name} and {columns} are what is
-- told of a schedule.

with m as materialized (select message from {table} where msg_id = $1 for update)
select {name}, {columns} from m
