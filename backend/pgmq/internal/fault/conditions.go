package fault

import "strings"

// conditionName returns the name that PostgreSQL gives a SQLSTATE, if its text may quote a message and the
// name says more than the code, or that of its class.
func conditionName(code string) string {
	classes := map[string]string{
		"0A": "feature not supported", "22": "invalid data", "26": "invalid name of a prepared statement", "38": "an external routine failed",
		"39": "an external routine was called wrongly", "3F": "invalid name of a schema", "42": "a statement is wrong or denied",
		"54": "a limit of PostgreSQL is exceeded", "55": "an object is not in the state for it", "58": "a file cannot be used",
		"F0": "invalid configuration", "HV": "a foreign table failed", "P0": "a function failed", "XX": "an internal error",
	}
	if name, known := conditions()[code]; known {
		return name
	}
	return classes[code[:min(len(code), 2)]]
}

// conditions are the names of Appendix A of PostgreSQL's documentation.
func conditions() map[string]string {
	conditions := map[string]string{}
	for name := range strings.FieldsSeq(conditionNames) {
		code, name, _ := strings.Cut(name, ":")
		conditions[code] = name
	}
	return conditions
}

const conditionNames = `
22001:string_data_right_truncation 22003:numeric_value_out_of_range 22004:null_value_not_allowed 22005:error_in_assignment
22007:invalid_datetime_format 22008:datetime_field_overflow 22009:invalid_time_zone_displacement_value 22011:substring_error
22012:division_by_zero 22015:interval_field_overflow 22018:invalid_character_value_for_cast 22019:invalid_escape_character
2201B:invalid_regular_expression 2201E:invalid_argument_for_logarithm 2201F:invalid_argument_for_power_function
22021:character_not_in_repertoire 22023:invalid_parameter_value 22025:invalid_escape_sequence 22026:string_data_length_mismatch
22027:trim_error 2202E:array_subscript_error 22030:duplicate_json_object_key_value 22032:invalid_json_text
22033:invalid_sql_json_subscript 2203F:sql_json_scalar_required 2200L:not_an_xml_document 2200M:invalid_xml_document
2200N:invalid_xml_content 22P01:floating_point_exception 22P02:invalid_text_representation 22P03:invalid_binary_representation
22P04:bad_copy_file_format 22P05:untranslatable_character
42601:syntax_error 42602:invalid_name 42622:name_too_long 42703:undefined_column 42704:undefined_object 42725:ambiguous_function
42804:datatype_mismatch 42846:cannot_coerce 42883:undefined_function 42P01:undefined_table 42501:insufficient_privilege
54000:program_limit_exceeded 58P01:undefined_file P0004:assert_failure XX000:internal_error`
