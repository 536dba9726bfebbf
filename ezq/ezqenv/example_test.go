package ezqenv_test

import (
	"fmt"

	"github.com/ezq-go/ezq/ezq/ezqenv"
)

func ExampleRead() {
	variables := environment{ // a service passes os.LookupEnv
		"EZQ_DATABASE_URL":         "postgres://app:hunter2@db:5432/shop",
		"EZQ_TOPIC":                "orders",
		"EZQ_CONCURRENCY":          "20",
		"EZQ_CONSUMER_TIMEOUT":     "30", // as the Python library has it
		"EZQ_CONSUMER_BATCH_SIZE":  "100",
		"EZQ_SOMETHING_ELSE_AGAIN": "is not ours",
	}
	settings, err := ezqenv.Read(variables.lookup)
	fmt.Println(settings, err)
	fmt.Println("the router handles", settings.Router().Concurrency, "events at a time")

	variables["EZQ_CONCURRENCY"] = "lots"
	_, err = ezqenv.Read(variables.lookup)
	fmt.Println(err)
	// Output:
	// EZQ_DATABASE_URL=postgres://app@db:5432/shop EZQ_TOPIC=orders EZQ_CONCURRENCY=20 EZQ_HANDLER_TIMEOUT=30s EZQ_LOG_LEVEL=INFO <nil>
	// the router handles 20 events at a time
	// ezqenv: EZQ_CONCURRENCY is not a whole number: set it to a number from 1 to 1048576
}
