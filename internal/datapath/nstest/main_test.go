package nstest

import (
	"fmt"
	"os"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(nodeEnv) != "" {
		if err := serveNode(); err != nil {
			fmt.Fprintln(os.Stderr, "node process:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testutil.Main(m))
}
