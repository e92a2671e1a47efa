# shellcheck shell=bash
# Builds the upstream test suites: Kubernetes' own specs of the network with the
# program that runs them, and cyclonus; and the images that the specs ask for. They
# take longer to build than all of the lab, which does not need them: `lab build
# specs` asks for the specs, and `lab build conformance` for cyclonus too.

# NAME MODULE PACKAGE of each program. A name in .test is the test of a package.
readonly LAB_SUITES=(
  "cyclonus cyclonus github.com/mattfenwick/cyclonus/cmd/cyclonus"
  "ginkgo upstream github.com/onsi/ginkgo/v2/ginkgo"
  "e2e.test upstream ."
  "regression-issue-74839 upstream k8s.io/kubernetes/test/images/regression-issue-74839"
)

# The registry of the images that the specs ask for.
readonly LAB_SUITES_REGISTRY=localhost/e2e
# The images that the test image is enough for, and what the specs do with them:
# the busybox of a shell, an nginx that nobody connects to, a pause.
readonly LAB_SUITES_NAMES=(agnhost busybox glibc-dns-testing nginx pause)
# Programs that they call besides those of the test image.
readonly LAB_SUITES_TOOLS=(dig wget)

# suites_key: changes with everything that the suites are made of.
suites_key() {
  local module files=("$LAB_SRC/lib/suites.sh" "$LAB_SRC/lib/build.sh" "$LAB_SRC"/upstream/*.go)
  for module in upstream cyclonus; do
    files+=("$LAB_SRC/$module/go.mod" "$LAB_SRC/$module/go.sum")
  done
  { go version && images_key && dns_folder && cat "${files[@]}"; } | sha256sum | cut -c 1-12
}

suites_folder() {
  echo "$LAB_CACHE/suites-$(suites_key)"
}

# suites_missing WORD FOLDER: the rows of the programs that the folder lacks of
# "specs", or of all.
suites_missing() {
  local row
  for row in "${LAB_SUITES[@]}"; do
    [[ $1 == specs && $row == cyclonus\ * || -x $2/${row%% *} ]] || echo "$row"
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

# suites_versions NAME: the versions of an image that the specs ask for.
suites_versions() {
  local kubernetes
  kubernetes=$(cd "$LAB_SRC/upstream" && GOFLAGS=-mod=readonly GOWORK=off go list -m -f '{{.Dir}}' k8s.io/kubernetes)
  sed -nE "s/.*Config\{list\.(PromoterE2e|Gc)Registry, \"$1\", \"(.*)\"\}/\2/p" "$kubernetes/test/utils/image/manifest.go"
}

# suites_image_test FOLDER: the test image with more programs, under the names of
# the images that the specs ask for. Upstream's has CoreDNS too.
suites_image_test() {
  local root tool name version names=()
  root=$(mktemp -d "$1/root.XXXXXX")
  image_root_agnhost "$root"
  for tool in "${LAB_SUITES_TOOLS[@]}"; do
    image_copy_program "$root" "$(command -v "$tool")" "$tool"
  done
  # As the wget of busybox, which ends with a signal when it is linked statically.
  echo 'tries = 1' >"$root/etc/wgetrc"
  ln "$(dns_folder)/coredns" "$root/coredns"
  for name in "${LAB_SUITES_NAMES[@]}"; do
    for version in $(suites_versions "$name"); do
      names+=("$LAB_SUITES_REGISTRY/$name:$version")
    done
  done
  image_pack "$root" "$1/test.tar" /agnhost pause "${names[@]}"
  rm -rf "$root"
}

# suites_image_regression FOLDER: a server that sends what a client must not see.
suites_image_regression() {
  local root name=regression-issue-74839
  root=$(mktemp -d "$1/root.XXXXXX")
  ln "$1/$name" "$root/$name"
  image_pack "$root" "$1/regression.tar" "/$name" '' "$LAB_SUITES_REGISTRY/$name:$(suites_versions "$name")"
  rm -rf "$root"
}

# suites_ensure WORD: builds what the cache lacks of "specs", or of all suites. One
# process at a time; a second one waits and then finds the work done.
suites_ensure() {
  local folder row name module package rows log
  suites_check_version
  dns_ensure
  folder=$(suites_folder)
  mkdir -p "$folder"
  exec 9>"$folder/.lock"
  flock -n 9 || { say "waiting for another build in $folder" && flock 9; }
  mapfile -t rows < <(suites_missing "$1" "$folder")
  for row in "${rows[@]}"; do
    read -r name module package <<<"$row"
    log=$LAB_CACHE/log/build-$name.log
    case $name in
      *.test) step "build $name" "$log" suites_build_test "$module" "$package" "$folder/$name" ;;
      *) step "build $name" "$log" build_binary "$name" "$module" "$package" "$folder/$name" ;;
    esac
  done
  for name in test regression; do
    [[ -s $folder/$name.tar ]] ||
      step "image $name" "$LAB_CACHE/log/image-$name.log" "suites_image_$name" "$folder"
  done
  exec 9>&-
}
