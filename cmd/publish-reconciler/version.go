package main

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"strings"
)

// What a build without the repository beside it is told, as in a container, by
// -ldflags '-X main.buildVersion=v1.2.3 -X main.buildCommit=… -X main.buildDate=…'. Empty: what Go knows of the build.
var buildVersion, buildCommit, buildDate string

// build is where the program comes from.
type build struct {
	// version is a tag such as v1.2.3, or what Go makes of the last one and the commit; (devel) where it knows neither.
	version string
	// commit is the whole hash, or empty; date is the commit's, unless another was stamped, in RFC 3339, or empty.
	commit, date string
	// modified tells that there was more than what was committed.
	modified bool
}

// built tells of this program.
func built() build {
	info, _ := debug.ReadBuildInfo()
	return buildOf(info, build{version: buildVersion, commit: buildCommit, date: buildDate})
}

// buildOf takes what was stamped before what Go knows; info may be nil.
func buildOf(info *debug.BuildInfo, stamped build) build {
	var known build
	if info != nil {
		known.version = info.Main.Version
		for _, setting := range info.Settings {
			switch setting.Key {
			case "vcs.revision":
				known.commit = setting.Value
			case "vcs.time":
				known.date = setting.Value
			case "vcs.modified":
				known.modified = setting.Value == "true"
			}
		}
	}
	return build{
		version:  cmp.Or(stamped.version, known.version, "(devel)"),
		commit:   cmp.Or(stamped.commit, known.commit),
		date:     cmp.Or(stamped.date, known.date),
		modified: stamped.commit == "" && known.modified,
	}
}

// String is what --version prints: what is not known is left out.
func (b build) String() string {
	var facts []string
	if b.commit != "" {
		commit := "commit " + b.commit
		if b.modified {
			commit += " and changes"
		}
		facts = append(facts, commit)
	}
	if b.date != "" {
		facts = append(facts, b.date)
	}
	facts = append(facts, runtime.Version())
	return "publish-reconciler " + b.version + " (" + strings.Join(facts, ", ") + ")"
}

func version() string { return built().version }
