package packettest

import (
	"testing"

	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/testutil"
)

// Every object loads in every configuration. The verifier's work is printed with
// -v: a jump in it is worth a look.
func TestObjectsLoad(t *testing.T) {
	requireDatapath(t)
	for _, o := range []options{
		{},
		{underlay6: true},
		{tunnel: true},
		{tunnel: true, underlay6: true},
		{services: true},
		{services: true, tunnel: true},
	} {
		l, err := loader.Open(testutil.BPFFS(t), config(o, 1), nil)
		if err != nil {
			t.Errorf("tunnel=%t underlay6=%t services=%t: %+v", o.tunnel, o.underlay6, o.services, err)
			continue
		}
		for _, name := range l.Programs() {
			info, err := l.Program(name).Info()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			verified, ok := info.VerifiedInstructions()
			if !ok || verified == 0 {
				t.Errorf("%s: the kernel does not tell how many instructions it verified", name)
			}
			ins, err := info.Instructions()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			t.Logf("tunnel=%-5t underlay6=%-5t services=%-5t %-12s %6d instructions verified, %d in the program",
				o.tunnel, o.underlay6, o.services, name, verified, len(ins))
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}
