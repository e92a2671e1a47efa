// Package browser looks at the reports of placid in a real browser: nothing is
// loaded or logged, nothing overflows a wide or a narrow window, every bar has a
// size. Screenshots are left in bin/browser.
package browser
