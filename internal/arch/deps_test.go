package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	module = "github.com/placid-net/placid"
	// maxDirect is the budget of modules that our code imports, tests included.
	maxDirect = 27
)

var update = flag.Bool("update", false, "write the files of testdata anew")

// goPackage is what `go list` tells of a package.
type goPackage struct {
	ImportPath   string
	Doc          string
	GoFiles      []string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Module       *struct {
		Path string
		Main bool
	}
}

func (p goPackage) ours() bool { return p.Module != nil && p.Module.Main }

// list runs `go list` in the root of the module.
func list(t *testing.T, args ...string) []goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go",
		append([]string{"list", "-json=ImportPath,Doc,GoFiles,Imports,TestImports,XTestImports,Module"}, args...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var pkgs []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("decode the output of go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// packages lists the packages of the project.
func packages(t *testing.T) []goPackage {
	t.Helper()
	pkgs := list(t, "./...")
	if len(pkgs) < 5 {
		t.Fatalf("go list found only %d packages: is this the root of the module?", len(pkgs))
	}
	return pkgs
}

// directModules returns the modules that our packages among pkgs import.
func directModules(pkgs []goPackage, withTests bool) []string {
	moduleOf := map[string]string{}
	for _, p := range pkgs {
		if p.Module != nil && !p.Module.Main {
			moduleOf[p.ImportPath] = p.Module.Path
		}
	}
	var out []string
	for _, p := range pkgs {
		if !p.ours() {
			continue
		}
		imports := p.Imports
		if withTests {
			imports = slices.Concat(imports, p.TestImports, p.XTestImports)
		}
		for _, imp := range imports {
			if m := moduleOf[imp]; m != "" {
				out = append(out, m)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestProgramsDependOn compares the modules that each program's own packages
// import with testdata, so that a new dependency is seen in review. After a
// wanted change: go test ./internal/arch -update.
func TestProgramsDependOn(t *testing.T) {
	for _, program := range list(t, "./cmd/...") {
		name := path.Base(program.ImportPath)
		t.Run(name, func(t *testing.T) {
			got := strings.Join(directModules(list(t, "-deps", program.ImportPath), false), "\n") + "\n"
			file := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatalf("read %s: %v; run: go test ./internal/arch -update", file, err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("dependencies of %s (-%s +now); if that is wanted: go test ./internal/arch -update\n%s", name, file, diff)
			}
		})
	}
}

// TestDirectDependencies keeps the number of modules that we choose small.
func TestDirectDependencies(t *testing.T) {
	direct := directModules(list(t, "-deps", "-test", "./..."), true)
	if len(direct) > maxDirect {
		t.Errorf("%d modules are imported directly, want at most %d:\n%s", len(direct), maxDirect, strings.Join(direct, "\n"))
	}
	if !slices.Contains(direct, "github.com/google/go-cmp") {
		t.Errorf("the list misses a module that this very test imports: %v", direct)
	}
}
