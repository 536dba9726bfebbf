// Package arch holds the tests of what the compiler cannot see: which package may know which,
// and the shape that every file keeps. The rules are data, each with the sentence that it enforces.
package arch
