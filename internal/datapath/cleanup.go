package datapath

import (
	"errors"

	"github.com/placid-net/placid/internal/datapath/fib"
	"github.com/placid-net/placid/internal/datapath/loader"
	"github.com/placid-net/placid/internal/datapath/pair"
)

// Cleanup removes every trace of the datapath from the node: pod interfaces,
// routes, the overlay device, programs, maps. It goes on after an error and
// returns all of them. What is absent is success.
func Cleanup(bpfRoot string) error {
	errs := []error{fib.RemoveAll()}
	hosts, err := pair.Inventory()
	errs = append(errs, err)
	for name := range hosts {
		errs = append(errs, pair.Remove(name))
	}
	errs = append(errs, removeOverlay(), loader.RemoveAll(bpfRoot))
	return errors.Join(errs...)
}
