package arch

import (
	"fmt"
	"strings"
	"testing"
)

// FailNow, and all that calls it, ends the goroutine that it runs on. On another one than the
// test's it leaves a handler without an outcome, and the test waits until its time is over. In a
// cleanup it leaves undone what the cleanup has still to release.
func TestTests_EndOnTheirOwnGoroutine(t *testing.T) {
	for _, breach := range newEndings(readSources(t)).breaches() {
		t.Error(breach)
	}
}

func TestEndings_AreSeen(t *testing.T) {
	for name, text := range map[string]string{
		"in a goroutine":                   `func f() { go func() { require.True(t, ok) }() }`,
		"in a cleanup":                     `func f() { t.Cleanup(func() { require.True(t, ok) }) }`,
		"in a goroutine that is given t":   `func f() { go func(t *testing.T) { require.True(t, ok) }(t) }`,
		"in a handler":                     `func f() { ezq.Handle(r, func(context.Context, E) error { require.True(t, ok); return nil }) }`,
		"in a middleware":                  `func f() { router.Use(func(next H) H { return func(m M) { require.True(t, ok) } }) }`,
		"in a variable":                    `func f() { h := func(context.Context, E) error { require.True(t, ok); return nil }; ezq.Handle(r, h) }`,
		"in a declared variable":           `func f() { var h = func() { require.True(t, ok) }; wg.Go(h) }`,
		"in a function within":             `func f() { go func() { defer func() { require.True(t, ok) }() }() }`,
		"in a helper":                      `func check() { require.True(t, ok) }; func f() { go func() { check() }() }`,
		"in a helper of a helper":          `func one() { two() }; func two() { t.FailNow() }; func f() { go func() { one() }() }`,
		"in a method":                      `func (s *S) check() { s.t.Fatal("") }; func f() { go func() { s.check() }() }`,
		"in a helper that is started":      `func check() { require.True(t, ok) }; func f() { go check() }`,
		"in a helper that is passed on":    `func check() { require.True(t, ok) }; func f() { wg.Go(check) }`,
		"in what a helper returns":         `func h() func() { return func() { require.True(t, ok) } }; func f() { wg.Go(h()) }`,
		"in a method that is passed on":    `func (s *S) check() { s.t.Fatal("") }; func f() { wg.Go(s.check) }`,
		"by way of a helper":               `func run(h func()) { go h() }; func f() { run(func() { require.True(t, ok) }) }`,
		"by way of a generic helper":       `func run[E any](t *T, h func(E)) { ezq.Handle(r, h) }; func f() { run(t, func(E) { require.True(t, ok) }) }`,
		"by way of a helper that wraps it": `func run(h func()) { wg.Go(func() { h() }) }; func f() { run(func() { require.True(t, ok) }) }`,
		"by way of two helpers":            `func two(h func()) { wg.Go(h) }; func one(h func()) { two(h) }; func f() { one(func() { t.Fatal() }) }`,
		"by way of many":                   `func run(hs ...func()) { for _, h := range hs { go h() } }; func f() { run(ok, func() { t.Fatal() }) }`,
		"by way of a method":               `func (s *S) run(h func()) { go h() }; func f() { s.run(func() { t.Fatal() }) }`,
	} {
		t.Run("an end of a test "+name, func(t *testing.T) {
			if got := newEndings([]source{parse(t, root+"/a/a_test.go", "package a\n"+text)}).breaches(); len(got) != 1 {
				t.Errorf("%d are seen in %s: %q", len(got), text, got)
			}
		})
	}
}

func TestEndings_AreSeenByEachName(t *testing.T) {
	for _, starter := range starters {
		for _, ender := range append([]string{"require.NoError"}, enders...) {
			if !strings.Contains(ender, ".") {
				ender = "t." + ender
			}
			text := fmt.Sprintf("package a\nfunc f() { %s(x, func() { %s(y) }) }", starter, ender)
			if got := newEndings([]source{parse(t, root+"/a/a_test.go", text)}).breaches(); len(got) != 1 {
				t.Errorf("%d are seen in %s: %q", len(got), text, got)
			}
		}
	}
}

func TestEndings_AreSeenInOtherPackages(t *testing.T) {
	helpers := parse(t, root+"/b/b.go", "package b\nfunc Check() { t.Fatal() }\nfunc Run(h func()) { go h() }")
	tests := parse(t, root+"/a/a_test.go", `package a
		import "github.com/ezq-go/ezq/b"
		func f() { go func() { b.Check() }() }
		func g() { b.Run(func() { t.Fatal() }) }`)
	if got := newEndings([]source{helpers, tests}).breaches(); len(got) != 2 {
		t.Errorf("%d are seen: %q", len(got), got)
	}
}

func TestEndings_OnGoroutineOfTestAreFine(t *testing.T) {
	for name, text := range map[string]string{
		"the test's own":               `func f() { require.True(t, ok) }`,
		"a subtest's":                  `func f() { go func() { t.Run("", func(t *testing.T) { require.True(t, ok) }) }() }`,
		"that of a stand-in for one":   `func (r *recorder) run(f func(testing.TB)) { go f(r) }; func f() { r.run(func(tb testing.TB) { tb.FailNow() }) }`,
		"one that sets up a cleanup":   `func f() { t.Cleanup(func() { assert.True(t, ok) }); require.True(t, ok) }`,
		"that of a helper it calls":    `func run(h func()) { h() }; func f() { run(func() { require.True(t, ok) }) }`,
		"that of testify's own":        `func f() { go func() { check(func(c *assert.CollectT) { require.True(c, ok) }) }() }`,
		"a program's":                  `func f() { go func() { log.Fatal("") }() }`,
		"a goroutine that only errs":   `func f() { go func() { t.Errorf(""); assert.True(t, ok) }() }`,
		"one whose argument it is":     `func f() { go run(t, require.New(t)) }`,
		"that of another method alone": `func (s *S) end() { t.Fatal() }; func (r *R) end() {}; func f() { go func() { r.end() }() }`,
	} {
		t.Run("a goroutine that may end a test is "+name, func(t *testing.T) {
			if got := newEndings([]source{parse(t, root+"/a/a_test.go", "package a\n"+text)}).breaches(); len(got) > 0 {
				t.Errorf("in %s: %q", text, got)
			}
		})
	}
}
