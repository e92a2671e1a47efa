package agentapi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/placid-net/placid/internal/agentapi"
	"github.com/placid-net/placid/internal/state"
)

func delOf(container, ifName string) agentapi.CNIRequest {
	return agentapi.CNIRequest{
		Attachment: state.AttachmentID{ContainerID: container, IfName: ifName},
		Netns:      "/run/netns/x",
		Pod:        state.PodRef{Namespace: "ns", Name: "p"},
	}
}

func TestPendingDir(t *testing.T) {
	d := agentapi.PendingDir(filepath.Join(t.TempDir(), "run", "pending"))
	listed(t, d, nil)

	reqs := []agentapi.CNIRequest{delOf("aa", "eth0"), delOf("aa", "eth1"), delOf("bb", "eth0")}
	for _, r := range reqs {
		if err := d.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	listed(t, d, reqs)
	if info, err := os.Stat(string(d)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v, want mode 0700", info.Mode(), err)
	}

	again := reqs[1]
	again.Netns = ""
	if err := d.Put(again); err != nil {
		t.Fatal(err)
	}
	listed(t, d, []agentapi.CNIRequest{reqs[0], again, reqs[2]})

	for range 2 { // the second time it is absent
		if err := d.Remove(reqs[0].Attachment); err != nil {
			t.Fatal(err)
		}
	}
	listed(t, d, []agentapi.CNIRequest{again, reqs[2]})
	for _, tc := range []struct {
		a    state.AttachmentID
		want bool
	}{{reqs[0].Attachment, false}, {reqs[1].Attachment, true}, {reqs[2].Attachment, true}} {
		if got, err := d.Has(tc.a); err != nil || got != tc.want {
			t.Errorf("Has(%s) = %v, %v, want %v", tc.a, got, err, tc.want)
		}
	}
}

func listed(t *testing.T, d agentapi.PendingDir, want []agentapi.CNIRequest) {
	t.Helper()
	got, junk, err := d.List()
	if err != nil || len(junk) != 0 {
		t.Errorf("List: %v, junk %v", err, junk)
	}
	if diff := cmp.Diff(want, got, comparer()); diff != "" {
		t.Errorf("List (-want +got):\n%s", diff)
	}
}

func TestPendingNames(t *testing.T) {
	d := agentapi.PendingDir(t.TempDir())
	ids := []state.AttachmentID{
		{ContainerID: "a", IfName: "b-c"},
		{ContainerID: "a-b", IfName: "c"}, // the readable name of the one before
		{ContainerID: "../../etc/passwd", IfName: "eth0"},
		{ContainerID: "a", IfName: "../x"},
		{ContainerID: "a.b", IfName: "c"},
		{ContainerID: "a_b", IfName: "c"},
		{ContainerID: strings.Repeat("x", 4096), IfName: "eth0"},
		{ContainerID: strings.Repeat("x", 4096) + "y", IfName: "eth0"},
		{ContainerID: ".hidden", IfName: "\xff\xfe"},
	}
	for _, id := range ids {
		if err := d.Put(agentapi.CNIRequest{Attachment: id}); err != nil {
			t.Errorf("Put(%.40s): %v", id, err)
		}
	}
	entries, err := os.ReadDir(string(d))
	if err != nil || len(entries) != len(ids) {
		t.Errorf("%d files, %v, want %d", len(entries), err, len(ids))
	}
	for _, id := range ids {
		if err := d.Remove(id); err != nil {
			t.Errorf("Remove(%.40s): %v", id, err)
		}
	}
	listed(t, d, nil)
}

func TestPendingJunkIsSetAside(t *testing.T) {
	dir := t.TempDir()
	d := agentapi.PendingDir(dir)
	good := delOf("aa", "eth0")
	if err := d.Put(good); err != nil {
		t.Fatal(err)
	}
	goodBytes, err := os.ReadFile(filepath.Join(dir, onlyFile(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty.json":       "",
		"text":             "hello",
		"other-type.json":  `["a"]`,
		"wrong-field.json": `{"attachment":{"containerID":7}}`,
		"no-id.json":       `{"attachment":{"containerID":"c"}}`,
		"misnamed.json":    string(goodBytes),
		"big.json":         `{"netns":"` + strings.Repeat("x", agentapi.MaxRequestBody) + `"}`,
	} {
		if err = os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err = os.Mkdir(filepath.Join(dir, "folder.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err = os.Symlink("/etc/passwd", filepath.Join(dir, "link.json")); err != nil {
		t.Fatal(err)
	}

	got, junk, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]agentapi.CNIRequest{good}, got, comparer()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if len(junk) != 9 {
		t.Errorf("%d reports of junk, want 9: %v", len(junk), junk)
	}
	for _, name := range []string{"text", "folder.json", "link.json", "misnamed.json"} {
		if _, err := os.Lstat(filepath.Join(dir, name+".junk")); err != nil {
			t.Errorf("not set aside: %v", err)
		}
	}
	listed(t, d, []agentapi.CNIRequest{good}) // reported once
}

func TestPendingTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	d := agentapi.PendingDir(dir)
	fresh, dead := filepath.Join(dir, ".fresh1"), filepath.Join(dir, ".dead2")
	for _, p := range []string{fresh, dead} {
		if err := os.WriteFile(p, []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(dead, old, old); err != nil {
		t.Fatal(err)
	}
	listed(t, d, nil)
	if got := onlyFile(t, dir); got != ".fresh1" {
		t.Errorf("left is %s, want the writer's that may be alive", got)
	}
}

func TestPendingErrorsNameTheFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := agentapi.PendingDir(file)
	id := state.AttachmentID{ContainerID: "c", IfName: "e"}
	_, _, listErr := d.List()
	_, hasErr := d.Has(id)
	for what, err := range map[string]error{"Put": d.Put(agentapi.CNIRequest{Attachment: id}), "List": listErr, "Has": hasErr, "Remove": d.Remove(id)} {
		if err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error that names %s", what, err, file)
		}
	}
}

func onlyFile(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%d files in %s, %v, want 1", len(entries), dir, err)
	}
	return entries[0].Name()
}

func FuzzPendingFile(f *testing.F) {
	f.Add([]byte(`{"attachment":{"containerID":"c","ifName":"e"}}`))
	f.Add([]byte(`{"attachment":{"containerID":"c","ifName":"e"},"expect":[""],"bandwidth":null}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		d := agentapi.PendingDir(t.TempDir())
		path := filepath.Join(string(d), "x.json")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		reqs, junk, err := d.List()
		if err != nil || len(reqs)+len(junk) != 1 {
			t.Fatalf("%d requests, junk %v, %v", len(reqs), junk, err)
		}
	})
}
