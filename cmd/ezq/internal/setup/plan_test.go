package setup

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ezq-go/ezq/cmd/ezq/internal/official"
)

// fresh is a database without PGMQ, and a role that may install it.
func fresh(changes ...func(*State)) State {
	s := State{Server: 170002, Role: "ada", Database: "shop", MayCreate: true}
	for _, change := range changes {
		change(&s)
	}
	return s
}

// installed is a database that has all of it, with PGMQ of a version.
func installed(changes ...func(*State)) State {
	s := State{
		Server: 170002, Role: "ada", Database: "shop", MayCreate: true, Owner: "ada", Trusted: true, MayExtend: true, Owns: true, Installed: true,
		Things: []string{"q_ezq_schedules"}, IDs: []string{"key", "until"}, Marks: marks(),
		Pauses: []string{"consumer_group", "paused_by", "queue", "reason", "since", "topic", "until"},
	}
	for _, change := range changes {
		change(&s)
	}
	return s
}

func extension(is, available string) func(*State) {
	return func(s *State) { s.Extension, s.Available = is, available }
}

func until(mark string) func(*State) {
	return func(s *State) {
		s.Marks = nil
		for _, m := range marks() {
			if !official.Older(mark, m) {
				s.Marks = append(s.Marks, m)
			}
		}
	}
}

// pgmq is a bundle with the scripts from 1.9.0 on.
func pgmq() (official.Bundle, error) {
	return official.Bundle{Version: "1.11.1", Install: "all", Updates: []official.Update{
		{From: "1.11.0", To: "1.11.1", SQL: "3"},
		{From: "1.10.1", To: "1.11.0", SQL: "2"},
		{From: "1.10.0", To: "1.10.1", SQL: "1"},
		{From: "1.9.0", To: "1.10.0", SQL: "SELECT pg_catalog.pg_extension_config_dump('pgmq.x', '');\n0"},
		{From: "1.11.1", To: "1.12.0", SQL: "too far"},
		{From: "1.10.0", To: "1.9.0", SQL: "back"},
	}}, nil
}

func TestPlan_OfInstall(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		state State
		plain bool
		steps string // a part of the first title, or of the error
		fails bool
	}{
		"PostgreSQL 13":                         {fresh(func(s *State) { s.Server = 130014 }), false, "PostgreSQL 13.14, and PGMQ needs 14 or later", true},
		"the server has the extension":          {fresh(extension("", "1.10.0")), false, "create the extension pgmq 1.10.0", false},
		"the extension, and plain SQL is asked": {fresh(extension("", "1.10.0")), true, "install PGMQ 1.11.1 as plain SQL", false},
		"the extension is too old":              {fresh(extension("", "1.4.4")), false, "has the extension pgmq 1.4.4, and ezq needs 1.5.0", true},
		"the extension needs a superuser": {
			fresh(extension("", "1.10.0"), func(s *State) { s.Superuser = true }), false,
			"let a superuser run CREATE EXTENSION pgmq, or install the SQL of PGMQ with --plain", true,
		},
		"no right to create the extension": {
			fresh(extension("", "1.10.0"), func(s *State) { s.MayCreate = false }), false,
			`may not create the extension pgmq in the database "shop"`, true,
		},
		"all is there, and newer":    {installed(extension("1.99.0", "1.10.0")), false, "", false},
		"PGMQ of before headers":     {installed(until("1.4.0")), false, "older than 1.5.0", true},
		"no right to the own tables": {installed(func(s *State) { s.IDs, s.MayExtend, s.Owner = nil, false, "bob" }), false, `connect as "bob", which owns it`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := planInstall(test.state, way{sql: test.plain, bundle: pgmq})
			switch {
			case test.fails:
				require.ErrorContains(t, err, test.steps)
			case test.steps == "":
				require.NoError(t, err)
				require.Empty(t, p.Steps)
			default:
				require.NoError(t, err)
				require.Contains(t, p.Steps[0].Title, test.steps)
			}
		})
	}
}

func TestPlan_OfUpgradeNeverGoesBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		state State
		steps string // the titles
		note  string
	}{
		"a later extension":             {installed(extension("1.10.0", "1.11.0")), "update the extension pgmq from 1.10.0 to 1.11.0", ""},
		"an earlier extension":          {installed(extension("1.11.0", "1.10.0")), "", "the extension pgmq is 1.11.0, and the server has no later one: it stays"},
		"10 is later than 9":            {installed(extension("1.9.0", "1.10.0")), "update the extension pgmq from 1.9.0 to 1.10.0", ""},
		"plain SQL of that version":     {installed(), "", "PGMQ is 1.11.1 or later, installed as plain SQL, and this ezq has no later one"},
		"plain SQL of a version before": {installed(until("1.10.1")), "update PGMQ from 1.10.1 to 1.11.0, with its own script; update PGMQ from 1.11.0 to 1.11.1, with its own script", "lock each queue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := planUpgrade(test.state, way{bundle: pgmq})
			require.NoError(t, err)
			require.Equal(t, test.steps, strings.Join(titles(p), "; "))
			require.Contains(t, strings.Join(p.Notes, "; "), test.note)
		})
	}
}

func TestPlan_OfUpgradeRunsNoScriptOfExtensions(t *testing.T) {
	t.Parallel()
	p, err := planUpgrade(installed(until("1.9.0")), way{bundle: pgmq})
	require.NoError(t, err)
	require.Equal(t, ownPath+"\n0", p.Steps[0].SQL)
	_, err = planUpgrade(installed(until("1.8.0")), way{bundle: pgmq})
	require.ErrorContains(t, err, "no script that updates PGMQ 1.8.0")
	_, err = planUpgrade(installed(until("1.9.0"), func(s *State) { s.Owns, s.Owner = false, "bob" }), way{bundle: pgmq})
	require.ErrorContains(t, err, `does not own PGMQ: connect as "bob"`)
	failed := errors.New("no network")
	_, err = planUpgrade(installed(until("1.9.0")), way{bundle: func() (official.Bundle, error) { return official.Bundle{}, failed }})
	require.ErrorIs(t, err, failed)
}
