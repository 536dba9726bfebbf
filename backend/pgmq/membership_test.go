package pgmq_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/backend/pgmq"
	"github.com/ezq-go/ezq/internal/pgtest"
)

// membershipEnv is a queue of a team that mallory administers, whose trigger steals, and a program.
type membershipEnv struct {
	*untrustedOwnerEnv
	team, program, url string
}

func newMembershipEnv(t *testing.T) *membershipEnv {
	t.Helper()
	env := &membershipEnv{untrustedOwnerEnv: newUntrustedOwnerEnv(t)}
	env.team = env.makeRole(t, grantsOf(t, "ezq_owner")...)
	execute(t, env.pool, "grant "+env.team+" to "+env.role+" with admin option; grant all on schema public to "+env.team+"; alter function public.steal() owner to "+env.team)
	env.execAsOwner(t, "set role "+env.team)
	env.queue(t, "orders")
	env.execAsOwner(t, "reset role")
	env.url = pgtest.Role(t, env.database, grantsOf(t, "ezq_owner")...)
	env.program = roleOf(t, env.url)
	return env
}

func roleOf(t *testing.T, url string) string {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	require.NoError(t, err)
	return config.User
}

// makeRole returns the name of a new role.
func (env *membershipEnv) makeRole(t *testing.T, grants ...string) string {
	t.Helper()
	return roleOf(t, pgtest.Role(t, env.database, grants...))
}

// publish publishes as the program, and returns whether the trigger ran.
func (env *membershipEnv) publish(t *testing.T) (ran bool) {
	t.Helper()
	client := openAt(t, env.url, pgmq.Config{})
	err := client.Publish("orders", conditional(t.Context(), "1", nil, 0))
	stolen := get[int](t, env.pool, "select count(*) from public.loot") > 0
	execute(t, env.pool, "delete from public.loot")
	if err != nil {
		require.ErrorIs(t, err, pgmq.ErrPermission)
		require.ErrorContains(t, err, "belongs to the role "+env.team)
	}
	require.Equal(t, err == nil, stolen)
	return stolen
}

// A role may be made a member of another one by each role that administers the other one: it is no reason to trust that one.
func TestOwner_IsNotTrustedForMembershipThatItsAdministratorGrants(t *testing.T) {
	t.Parallel()
	env := newMembershipEnv(t)
	require.False(t, env.publish(t))
	env.execAsOwner(t, "grant "+env.team+" to "+env.program)
	require.False(t, env.publish(t), "mallory has granted it")
	env.execAsOwner(t, "revoke "+env.team+" from "+env.program)

	trusted := env.makeRole(t)
	execute(t, env.pool, "grant "+trusted+" to "+env.program)
	require.False(t, env.publish(t))
	env.execAsOwner(t, "grant "+env.team+" to "+trusted)
	require.False(t, env.publish(t), "of two grants of a chain mallory has made one")
}

// A superuser, the owner of the database and a role with the rights of that owner vouch for the roles that they grant.
func TestOwner_IsTrustedForMembershipThatAdministratorGrants(t *testing.T) {
	t.Parallel()
	for by, grantor := range map[string]string{
		"a superuser": "reset role", "the owner of the database": "set role {admin}", "a role with the rights of that": "set role {deputy}",
	} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			env := newMembershipEnv(t)
			admin, deputy, between := env.makeRole(t), env.makeRole(t), env.makeRole(t)
			execute(t, env.pool, "grant "+admin+" to "+deputy+"; grant "+env.team+", "+between+" to "+admin+", "+deputy+" with admin option")
			execute(t, env.pool, "alter database "+get[string](t, env.pool, "select quote_ident(current_database())")+" owner to "+admin)
			defer execute(t, env.pool, "alter database "+get[string](t, env.pool, "select quote_ident(current_database())")+" owner to current_user")
			grant := func(sql string) {
				execute(t, env.pool, strings.NewReplacer("{admin}", admin, "{deputy}", deputy).Replace(grantor)+"; "+sql+"; reset role")
			}
			require.False(t, env.publish(t))
			grant("grant " + between + " to " + env.program)
			require.False(t, env.publish(t))
			grant("grant " + env.team + " to " + between)
			require.True(t, env.publish(t), "both grants of the chain are of %s", by)
			execute(t, env.pool, "alter role "+env.program+" noinherit")
			grant("revoke " + between + " from " + env.program + "; grant " + between + " to " + env.program)
			require.False(t, env.publish(t), "it is a member, and has not the rights")
		})
	}
}

// Since PostgreSQL 16, a role that creates another one is a member of it, and has none of its rights.
func TestOwner_IsNotTrustedByTheRoleThatCreatedIt(t *testing.T) {
	t.Parallel()
	env := newMembershipEnv(t)
	if get[int](t, env.pool, "select current_setting('server_version_num')::int") < 160000 {
		t.Skip("the role that creates another one is no member of it before PostgreSQL 16")
	}
	execute(t, env.pool, "alter role "+env.program+" createrole; set role "+env.program+"; create role made_by_"+env.program+"; reset role; grant usage, create on schema pgmq, public to made_by_"+env.program+
		"; alter table pgmq.q_orders owner to made_by_"+env.program+"; alter function public.steal() owner to made_by_"+env.program)
	env.team = "made_by_" + env.program
	defer execute(t, env.pool, "drop owned by "+env.team+" cascade; drop role "+env.team)
	require.False(t, env.publish(t))
	require.Equal(t, 1, get[int](t, env.pool, "select count(*) from pg_auth_members where roleid = '"+env.team+"'::regrole"))
}

// The role that administers another one may grant it to a third with INHERIT, which the grant of a superuser left out.
func TestOwner_IsNotTrustedForAGrantWithoutRightsBesideOneOfItsAdministrator(t *testing.T) {
	t.Parallel()
	env := newMembershipEnv(t)
	if get[int](t, env.pool, "select current_setting('server_version_num')::int") < 160000 {
		t.Skip("there is one grant of a role to another before PostgreSQL 16")
	}
	execute(t, env.pool, "grant "+env.team+" to "+env.program+" with inherit false")
	env.execAsOwner(t, "grant "+env.team+" to "+env.program+" with inherit true")
	require.False(t, env.publish(t))
	execute(t, env.pool, "grant "+env.team+" to "+env.program+" with inherit true")
	require.True(t, env.publish(t))
}
