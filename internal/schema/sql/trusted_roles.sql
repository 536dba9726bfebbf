-- The beginning of a statement, which leaves the roles that the current role trusts in "trusted_roles", by their oid.
--
-- These are the current role, superusers, the owner of the database, the roles that have the rights of one of these, and
-- each role that the current one has the rights of, if one of those has granted it. A grant of another role is no reason
-- for trust: each administrator of a role can grant it to this one. A superuser has the rights of all roles, and does not
-- trust them for that.
--
-- pg_database_owner is the owner of the database under another name. Up to PostgreSQL 15 the member says whether it has
-- the rights of its roles, and later the grant, in a column that is read as JSON since older versions lack it. Up to
-- PostgreSQL 15 there is one grant of a role to another, of the role that made or changed it last.

with recursive me as (select oid, rolsuper from pg_roles where rolname = current_user),
grants as (
	select m.member, m.roleid, m.grantor from pg_auth_members m join pg_roles r on r.oid = m.member
	where coalesce((pg_catalog.to_jsonb(m)->>'inherit_option'::text)::boolean, r.rolinherit)),
authorities as (
	select oid from pg_roles where rolsuper or rolname in (current_user, 'pg_database_owner')
		or oid in (select datdba from pg_database where datname = current_database())
	union select grants.member from authorities join grants on grants.roleid = authorities.oid),
granted as (
	select oid from me where not rolsuper
	union select grants.roleid from granted join grants on grants.member = granted.oid join authorities on authorities.oid = grants.grantor),
trusted_roles as (select oid from authorities union select oid from granted)
