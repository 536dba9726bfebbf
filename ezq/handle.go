package ezq

// route is a handler with its event type erased.
type route struct{ topic string }
