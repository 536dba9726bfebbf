package databaseurl

import (
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Fault says which parameter is wrong where pgx cannot parse a database URL, without its value, which may
// be a part of the password. It returns "" if it is not a single one.
func Fault(err error) string {
	parse, ok := errors.AsType[*pgconn.ParseConfigError](err)
	if !ok {
		return ""
	}
	parameter := blamed(complaint(parse))
	if parameter == "" {
		return ""
	}
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return "the file of its parameter " + parameter + " cannot be read: " + file.Err.Error()
	}
	return "its parameter " + parameter + " has no valid value"
}

// complaint returns what pgx says behind the text that it could not parse.
func complaint(err *pgconn.ParseConfigError) string {
	before := pgconn.NewParseConfigError(err.ConnString, "", nil).Error()
	return strings.TrimPrefix(err.Error(), before)
}

// blamed returns the parameter that a complaint of pgx is about. Only the first words count: what is behind
// them may quote a value.
func blamed(complaint string) string {
	complaint = strings.TrimPrefix(complaint, "failed to configure TLS (")
	for words, parameter := range map[string]string{
		"unable to read CA file": "sslrootcert", "unable to add CA": "sslrootcert", `both "sslcert"`: "sslcert", "unable to read cert": "sslcert",
		"unable to load cert": "sslcert", "unable to read sslkey": "sslkey", "failed to decode sslkey": "sslkey",
		"unable to find sslpassword": "sslpassword", "unable to decrypt key": "sslpassword", "failed to read service": "service",
	} {
		if strings.HasPrefix(complaint, words) {
			return parameter
		}
	}
	for _, verb := range []string{"cannot parse ", "invalid ", "unknown "} {
		complaint = strings.TrimPrefix(complaint, verb)
	}
	name := regexp.MustCompile(`^[a-z_]+`).FindString(complaint)
	if slices.Contains(parameters(), name) {
		return name
	}
	return ""
}

// parameters are those that pgx itself reads, and names where it cannot.
func parameters() []string {
	return []string{
		"sslmode", "sslcertmode", "port", "connect_timeout", "target_session_attrs", "channel_binding", "require_auth",
		"min_protocol_version", "max_protocol_version", "default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity",
		"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_lifetime_jitter",
		"pool_max_conn_idle_time", "pool_health_check_period", "pool_ping_timeout",
	}
}
