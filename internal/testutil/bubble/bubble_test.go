package bubble

import (
	"testing"
	"time"
)

func TestPass(t *testing.T) {
	Run(t, "a day", func(t T) {
		begin, rang := time.Now(), time.Duration(0)
		time.AfterFunc(time.Hour, func() { rang = time.Since(begin) })
		t.Pass(24 * time.Hour)
		if rang != time.Hour || time.Since(begin) != 24*time.Hour {
			t.Errorf("after %s, the timer of an hour rang at %s", time.Since(begin), rang)
		}
		t.Must(nil)
	})
}
