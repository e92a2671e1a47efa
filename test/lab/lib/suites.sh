# shellcheck shell=bash
# Builds the upstream test suites: Kubernetes' own specs of the network with the
# program that runs them, and cyclonus. They take longer to build than all of the
# lab, which does not need them: `lab build conformance` asks for them.

# NAME MODULE PACKAGE of each program. A name in .test is the test of a package.
readonly LAB_SUITES=(
  "cyclonus cyclonus github.com/mattfenwick/cyclonus/cmd/cyclonus"
  "ginkgo upstream github.com/onsi/ginkgo/v2/ginkgo"
  "e2e.test upstream ."
)

# suites_key: changes with everything that the suites are made of.
suites_key() {
  local module files=("$LAB_SRC/lib/suites.sh" "$LAB_SRC/lib/build.sh" "$LAB_SRC"/upstream/*.go)
  for module in upstream cyclonus; do
    files+=("$LAB_SRC/$module/go.mod" "$LAB_SRC/$module/go.sum")
  done
  { go version && cat "${files[@]}"; } | sha256sum | cut -c 1-12
}

suites_folder() {
  echo "$LAB_CACHE/suites-$(suites_key)"
}

# suites_missing FOLDER: the rows of the programs that the folder lacks.
suites_missing() {
  local row
  for row in "${LAB_SUITES[@]}"; do
    [[ -x $1/${row%% *} ]] || echo "$row"
  done
}

# suites_check_version: the specs are those of the Kubernetes that the lab runs.
suites_check_version() {
  local lab specs
  lab=$(kubernetes_version k8s)
  specs=$(kubernetes_version upstream)
  [[ $lab == "$specs" ]] ||
    die "the lab is Kubernetes $lab and the specs are of $specs: make $LAB_SRC/upstream/go.mod require and replace what k8s/go.mod does"
}

# kubernetes_version MODULE: the version of Kubernetes that it requires.
kubernetes_version() {
  awk '{sub(/^require /, "")} $1 == "k8s.io/kubernetes" {print $2}' "$LAB_SRC/$1/go.mod"
}

# suites_build_test MODULE PACKAGE OUTPUT: a program with the tests of a package.
suites_build_test() {
  local module=$1 package=$2 output=$3
  cd "$LAB_SRC/$module" || return
  GOFLAGS='-mod=readonly -buildvcs=false' GOWORK=off CGO_ENABLED=0 \
    nice go test -c -trimpath -ldflags "$(build_ldflags k8s)" -o "$output.part" "$package"
  mv "$output.part" "$output"
}

# suites_ensure: builds the suites that the cache lacks. One process at a time; a
# second one waits and then finds the work done.
suites_ensure() {
  local folder row name module package rows log
  suites_check_version
  folder=$(suites_folder)
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock -n 9 || { say "waiting for another build in $folder" && flock 9; }
  mapfile -t rows < <(suites_missing "$folder")
  for row in "${rows[@]}"; do
    read -r name module package <<<"$row"
    log=$LAB_CACHE/log/build-$name.log
    case $name in
      *.test) step "build $name" "$log" suites_build_test "$module" "$package" "$folder/$name" ;;
      *) step "build $name" "$log" build_binary "$name" "$module" "$package" "$folder/$name" ;;
    esac
  done
  exec 9>&-
}
