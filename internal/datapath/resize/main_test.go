package resize

import (
	"os"
	"testing"

	"github.com/placid-net/placid/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }
