-- Keeps out locks of the whole table, of all that a lock and its end do, before anything is locked. A stronger
-- lock at the end would wait for an index that is being built, or for a session that waits for the weaker one.

lock table {table}{also} in row exclusive mode
