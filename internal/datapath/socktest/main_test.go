package socktest

import (
	"fmt"
	"os"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(agentEnv) != "" {
		if err := runAgent(); err != nil {
			fmt.Fprintln(os.Stderr, "agent process:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testutil.Main(m))
}
