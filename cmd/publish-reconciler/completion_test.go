package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

func TestComplete(t *testing.T) {
	t.Parallel()
	root := newParser(new(commands)).Model.Node
	for line, want := range map[string]string{
		"r":                               "run reconcile",
		"dead ":                           "list show replay drop",
		"dead l":                          "list",
		"dead list --k":                   "--kind",
		"dead list --kind ":               "webhook check sweep",
		"dead list --kind=s":              "--kind=sweep",
		"dead list --kind =":              "webhook check sweep", // as bash has it
		"dead list --kind = s":            "sweep",
		"dead list --kind sweep --js":     "--json",
		"dead list --js":                  "--json",
		"run --console r":                 "readonly",
		"run --nats-creds ":               "", // a path
		"run --nats-creds x --console of": "off",
		"run --nats-creds=x --console of": "off",
		"--ver":                           "--version",
		"run --batch":                     "", // hidden
		"comple":                          "completion",
		"completion z":                    "zsh",
		"override some-id ":               "success failed",
		"override some-id --actor ana f":  "failed",
		"override ":                       "",
		"override --actor ana ":           "",
		"nonsense ":                       "",
		"run --nonsense=":                 "",
		"simulate --embedded --cl":        "--cleanup",
	} {
		var words []string
		for _, next := range complete(root, strings.Split(line, " ")) {
			words = append(words, next.word)
			if next.help == "" {
				t.Errorf("%q: %s has no help", line, next.word)
			}
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
	for _, words := range [][]string{nil, {""}} {
		if n := len(complete(root, words)); n < 15 {
			t.Errorf("%q becomes one of %d commands", words, n)
		}
	}
}

// What completes is what is allowed.
func TestValuesOfSettings(t *testing.T) {
	t.Parallel()
	faultsOf := func(flag, value string) string {
		var cli commands
		if _, err := newParser(&cli).Parse([]string{"run", "--database-url=postgres:///", "--" + flag + "=" + value}); err != nil {
			return err.Error()
		}
		_, err := cli.Run.config()
		return fmt.Sprint(err)
	}
	model := newParser(new(commands)).Model
	run := model.Children[slices.IndexFunc(model.Children, func(n *kong.Node) bool { return n.Name == "run" })]
	completed := 0
	for _, flag := range run.Flags {
		if flag.Hidden || flag.Target.Kind() != reflect.String {
			continue
		}
		wrong := faultsOf(flag.Name, "nonsense")
		if !flag.Tag.Has("values") {
			if strings.Contains(wrong, "one of") || strings.Contains(wrong, "true or false") {
				t.Errorf("--%s has no tag with its values: %s", flag.Name, wrong)
			}
			continue
		}
		completed++
		for value := range strings.SplitSeq(flag.Tag.Get("values"), ",") {
			if fault := faultsOf(flag.Name, value); fault != "<nil>" {
				t.Errorf("--%s=%s completes: %s", flag.Name, value, fault)
			}
			if !strings.Contains(wrong, value) {
				t.Errorf("--%s=%s completes, and %s", flag.Name, value, wrong)
			}
		}
	}
	if completed == 0 {
		t.Error("no setting has values")
	}
}

func TestCompletionCommand(t *testing.T) {
	t.Parallel()
	for shell, want := range map[string]string{"bash": "complete -o default -F", "zsh": "#compdef publish-reconciler\n", "fish": "complete -c publish-reconciler"} {
		p := begin(t, "completion", shell)
		p.exits(exitOK, soon)
		contains(t, p.stdout.String(), want)
	}
	p := begin(t, "completion", "tcsh")
	p.exits(exitUsage, soon)
	p.says(`shell is "tcsh": it must be bash, zsh or fish`)
	// As the shells ask: what is typed looks like flags, and may be empty.
	p = begin(t, "complete", "--", "run", "--console", "")
	p.exits(exitOK, soon)
	contains(t, p.stdout.String(), "readonly\tThe operator's page")
}

// A real bash asks a real program at Tab.
func TestCompletionInBash(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	program := filepath.Join(dir, "publish-reconciler")
	if err := os.WriteFile(program, []byte(fmt.Sprintf("#!/bin/sh\nexport %s=1\nexec '%s' \"$@\"\n", asProgram, os.Args[0])), 0o700); err != nil {
		t.Fatal(err)
	}
	const tab = `
set -eu
source <("$1" completion bash)
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_publish_reconciler
complete -p publish-reconciler
printf '%s\n' "${COMPREPLY[*]-}"`
	for line, want := range map[string]string{
		"":                  "dev run migrate",
		"dead re":           "replay",
		"run --console = ":  "on readonly off", // --console= in bash's words
		"run --data":        "--database-url",
		"run --nats-creds ": "",
	} {
		args := append([]string{"-c", tab, "tab", program, program}, strings.Split(line, " ")...)
		out, err := exec.CommandContext(t.Context(), "bash", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", line, err, out)
		}
		registered, reply, _ := strings.Cut(string(out), "\n")
		contains(t, registered, "complete -o default -F _publish_reconciler publish-reconciler")
		if want == "" && strings.TrimSpace(reply) != "" || !strings.HasPrefix(reply, want) {
			t.Errorf("%q becomes %q, want %q", line, reply, want)
		}
	}
}
