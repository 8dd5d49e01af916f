package contract_test

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"publish-reconciler/cmd/publish-reconciler/contract"
	"publish-reconciler/cmd/publish-reconciler/contract/contracttest"
	"publish-reconciler/streams"
)

// One form, so that a change shows as what it changes: two spaces, as jq and python3 -m json.tool write it.
func TestFormatted(t *testing.T) {
	t.Parallel()
	document := contract.Document("0.0.0")
	var want bytes.Buffer
	if err := json.Indent(&want, bytes.TrimSpace(document), "", "  "); err != nil {
		t.Fatal(err)
	}
	want.WriteByte('\n')
	if diff := cmp.Diff(want.String(), string(document)); diff != "" {
		t.Errorf("asyncapi.json is not formatted (jq . does it): %s", diff)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var document struct {
		Info struct{ Version string }
	}
	if err := json.Unmarshal(contract.Document(`7.8.9-"rc"`), &document); err != nil || document.Info.Version != `7.8.9-"rc"` {
		t.Errorf("%q, %v", document.Info.Version, err)
	}
}

// Every subject of package streams has a channel, every channel is one of its subjects, and lies in the stream that
// stores it.
func TestSubjects(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	known := constants(t, "streams", "", "publish.")
	if len(known) < 11 {
		t.Fatalf("package streams has %q alone: this test does not find its subjects", known)
	}
	used := make(map[string]bool)
	for _, name := range c.Names("channels") {
		address, _ := c.At("channels", name)["address"].(string)
		if address == "" { // of replies
			continue
		}
		fixed, _, variable := strings.Cut(address, "{")
		if strings.HasPrefix(address, "publish.api.") {
			fixed, variable = "publish.api.", true
		}
		if !slices.Contains(known, fixed) {
			t.Errorf("channel %s is at %s: package streams has no %q", name, address, fixed)
		}
		used[fixed] = true
		if variable == (address == fixed) {
			t.Errorf("channel %s: %s", name, address)
		}
		subject := strings.NewReplacer("{platform}", "instagram", "{log_id}", uuid.NewString(), "{kind}", "webhook", "{outcome}", "success").Replace(address)
		if got := c.Channel(subject); got != name {
			t.Errorf("%s belongs to the channel %q, want %s", subject, got, name)
		}
		stored := ""
		for _, stream := range streams.Streams(1) {
			if slices.ContainsFunc(stream.Subjects, func(filter string) bool { return streams.Subjects{Allow: []string{filter}}.Allows(subject) }) {
				stored = stream.Name
			}
		}
		if got, _ := c.At("channels", name)["x-stream"].(string); got != stored {
			t.Errorf("channel %s lies in the stream %q, want %q", name, got, stored)
		}
	}
	for _, subject := range known {
		if !used[subject] {
			t.Errorf("package streams has the subject %s, and the contract no channel for it", subject)
		}
	}
	id := uuid.New()
	for subject, want := range map[string]string{
		streams.WebhookSubject("x"): "webhook", streams.CheckSubject(id): "check", streams.ScheduleCheckSubject(id): "checkSchedule",
		streams.SubjectSweep: "sweep", streams.SubjectScheduleSweep: "sweepSchedule", streams.SubjectSchedulePrune: "pruneSchedule",
		streams.DeadSubject(streams.KindSweep): "deadLetter", streams.EventSubject("x", "retry"): "event", streams.EventSubject("x", "hold"): "holdEvent",
		streams.ProbeSubject("x"): "probe", streams.APISubject("status"): "status", "publish.event.x.pending": "", "publish.dead.letter": "", "publish": "",
	} {
		if got := c.Channel(subject); got != want {
			t.Errorf("%s belongs to the channel %q, want %q", subject, got, want)
		}
	}
}

// What the service says in one word the document lists, and no other.
func TestWords(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	outcomes := []string{"failed", "retry", "success"}
	for at, want := range map[string][]string{
		"schemas Reason":      constants(t, "reconciler", "Reason", ""),
		"schemas Trigger":     constants(t, "reconciler", "Trigger", ""),
		"schemas SweepReason": constants(t, "consumer", "SweepReason", ""),
		"parameters kind":     constants(t, "streams", "Kind", ""),
		"parameters outcome":  outcomes,
		"schemas Outcome":     outcomes,
		"schemas DeadLetterHeaders properties Publish-Dead-Reason": constants(t, "streams", "Reason", ""),
		"schemas DeadLetterHeaders properties Publish-Dead-Stream": {streams.StreamChecks, streams.StreamWebhooks},
	} {
		var got []string
		all, _ := c.At(append([]string{"components"}, strings.Fields(at)...)...)["enum"].([]any)
		for _, word := range all {
			got = append(got, word.(string))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Errorf("%s: %s", at, diff)
		}
	}
}

// Every header of the service's own is in the document, and none that is not.
func TestHeaders(t *testing.T) {
	t.Parallel()
	c := contracttest.Load(t)
	named := make(map[string]bool)
	for _, schema := range c.Names("components", "schemas") {
		for _, property := range c.Names("components", "schemas", schema, "properties") {
			if strings.HasPrefix(property, "Publish-") {
				named[property] = true
			}
		}
	}
	want := constants(t, "streams", "", "Publish-")
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(named))); diff != "" || len(want) == 0 {
		t.Error(diff)
	}
}

// constants are the texts of a package's constants of a type (by its name; empty: of any) that begin with a prefix, sorted.
func constants(t *testing.T, folder, typ, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob("../../../" + folder + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(source, func(node ast.Node) bool {
			spec, is := node.(*ast.ValueSpec)
			if !is {
				return true
			}
			if ident, _ := spec.Type.(*ast.Ident); typ != "" && (ident == nil || ident.Name != typ) {
				return true
			}
			for _, expression := range spec.Values {
				literal, is := expression.(*ast.BasicLit)
				if !is || literal.Kind != token.STRING {
					continue
				}
				if value, err := strconv.Unquote(literal.Value); err == nil && strings.HasPrefix(value, prefix) {
					found[value] = true
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(found))
}
