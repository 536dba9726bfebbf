// Package docs holds the tests of the documentation: that its Go code compiles, that its links lead
// somewhere, that what it names exists, and that a newcomer who follows the README arrives.
package docs
