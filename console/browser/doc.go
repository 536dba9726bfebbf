// Package browser tests the console in a Chromium, which EZQ_CHROMIUM names: it has no code of its own. It is a module
// of its own, since no other one needs chromedp.
package browser
