// Package bubble is what tests share that are told in fake time: in a bubble of
// testing/synctest, where waiting takes none.
package bubble

import (
	"testing"
	"testing/synctest"
	"time"
)

// T is a test, in a bubble or not.
type T struct{ *testing.T }

// Run runs f as a sub-test in a bubble of its own.
func Run(t *testing.T, name string, f func(t T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(T{t}) })
	})
}

// Must ends the test if there is an error.
func (t T) Must(err error) {
	t.Helper()
	Must(t, err)
}

// Pass lets time pass, and all goroutines of the bubble do what there is to do
// then.
func (T) Pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// Must ends a test or a benchmark if there is an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
