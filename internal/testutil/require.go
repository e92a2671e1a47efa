package testutil

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// RequireEnv is the environment variable that turns a missing requirement from
// a skip into a failure when it is "1".
const RequireEnv = "REQUIRE_ALL"

// RequireRoot skips the test unless it runs as root; with RequireEnv set it
// fails.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root (make test-datapath)")
	}
}

// RequireKernel skips the test when probe fails on a kernel older than since
// (e.g. "6.6"). On a kernel that should have the feature, or with RequireEnv
// set, it fails with the probe's error.
func RequireKernel(t testing.TB, feature, since string, probe func() error) {
	t.Helper()
	err := probe()
	if err == nil {
		return
	}
	if have := kernelRelease(); !olderThan(have, since) {
		t.Fatalf("Linux %s should have %s (since %s): %v", have, feature, since, err)
	}
	missing(t, fmt.Sprintf("needs %s, Linux %s: %v", feature, since, err))
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(RequireEnv) == "1" {
		t.Fatalf("%s, and %s=1 lets no test be skipped", what, RequireEnv)
	}
	t.Skip(what)
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// olderThan compares the first two numbers of two kernel releases.
func olderThan(have, want string) bool {
	h, w := release(have), release(want)
	return h[0] < w[0] || h[0] == w[0] && h[1] < w[1]
}

func release(s string) (out [2]int) {
	for i, part := range strings.SplitN(s, ".", 3) {
		if i == len(out) {
			break
		}
		end := strings.IndexFunc(part, func(r rune) bool { return r < '0' || r > '9' })
		if end >= 0 {
			part = part[:end]
		}
		out[i], _ = strconv.Atoi(part) // no digits: zero, as old as can be
	}
	return out
}
