// Command placid-cni is the CNI plugin that container runtimes start for each
// pod. It passes the request on to the placid-agent of the node.
package main

import (
	"os"

	"github.com/placid-net/placid/internal/cni"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(cni.Run(version, os.Stdout, os.Stderr)) }
