package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	const commit = "0d2b13a664b2531dc04f1fe0f5b2a3ad46a4fb5e"
	from := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Path: "publish-reconciler", Version: version}, Settings: settings}
	}
	revision, time := debug.BuildSetting{Key: "vcs.revision", Value: commit}, debug.BuildSetting{Key: "vcs.time", Value: "2026-11-27T13:00:00Z"}
	for name, tt := range map[string]struct {
		info    *debug.BuildInfo
		stamped build
		want    string
	}{
		"a tag":                 {from("v0.2.0", revision, time, debug.BuildSetting{Key: "vcs.modified", Value: "false"}), build{}, "v0.2.0 (commit " + commit + ", 2026-11-27T13:00:00Z, "},
		"changes":               {from("v0.2.0+dirty", revision, time, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), build{}, "v0.2.0+dirty (commit " + commit + " and changes, 2026-11-27T13:00:00Z, "},
		"go install of another": {from("v0.2.0"), build{}, "v0.2.0 ("},
		"stamped":               {from("(devel)"), build{version: "v0.2.0", commit: commit, date: "2026-11-28T00:00:00Z"}, "v0.2.0 (commit " + commit + ", 2026-11-28T00:00:00Z, "},
		"stamped, from a tree":  {from("v0.1.0+dirty", revision, time, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), build{version: "v0.2.0", commit: "abc"}, "v0.2.0 (commit abc, 2026-11-27T13:00:00Z, "},
		"a test":                {from(""), build{}, "(devel) ("},
		"nothing known":         {nil, build{}, "(devel) ("},
	} {
		want := "publish-reconciler " + tt.want + runtime.Version() + ")"
		if got := buildOf(tt.info, tt.stamped).String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// The first line of the log tells what is starting, whatever it waits for afterwards.
func TestTheLogBeginsWithTheVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nats.Halt()
	p := begin(t, w.args()...)
	line := p.logged("starting")
	if line["version"] != version() || line["commit"] != built().commit {
		t.Errorf("it says %v", line)
	}
}
